"""Memory for what was decoded, so that a small dataset is decoded once and not in each epoch of each stage."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from torch import Tensor


class DecodedCache:
    """Keeps tensors up to a number of bytes; what does not fit any more is made anew each time.

    Nothing is thrown out for something else: in training all clips are wanted equally often, so a full cache that
    stays as it is serves the most.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Tensor] = {}
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], Tensor], limit: int) -> Tensor:
        """The tensor of this key, made if it is not there; `limit` is in bytes. It must not be changed in place."""
        if key in self._kept:
            return self._kept[key]
        made = make()
        if self._bytes + made.nbytes <= limit:
            self._kept[key] = made
            self._bytes += made.nbytes
        return made


decoded = DecodedCache()
"""This process's: the stages of a plan, one after the other, share what they read."""
