"""What of a dataset is there, and what follows from it."""
