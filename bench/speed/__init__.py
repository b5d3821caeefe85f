"""What reading, training and measuring take, beside what one would otherwise write."""
