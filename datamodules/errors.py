"""What is wrong with a user's data."""

from __future__ import annotations


class DataError(Exception):
    """The data cannot be used as it is; the message says which files and what to do."""
