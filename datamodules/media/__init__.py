"""Decoding: seconds of sound and chosen frames out of any container."""
