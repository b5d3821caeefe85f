"""MMV: Self-Supervised MultiModal Versatile Networks."""
