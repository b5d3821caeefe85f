"""Clips -> batches: what workers read, in which order, and what is mixed."""
