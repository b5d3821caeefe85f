"""What a stage starts from by name, and not by a checkpoint's path (`init`)."""

from __future__ import annotations

IMAGENET = "imagenet"
"""What the library of its network offers."""
RANDOM = "random"
"""Weights as they are drawn, of a stage that extracts with them on purpose."""
NAMED = (IMAGENET, RANDOM)
