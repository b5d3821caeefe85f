"""Packed datasets: written, and read from a disk or a store."""
