"""How long work shows its progress, without knowing where: the harness has a bar for it, others have none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
Track = Callable[[Iterable[T], str, int], Iterable[T]]
"""(items, title, total) -> the items, while progress is shown."""


def no_progress(items: Iterable[T], title: str, total: int) -> Iterable[T]:
    """The items, without showing how far they are."""
    return items
