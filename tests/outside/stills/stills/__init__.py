"""A method that looks at pictures alone."""
