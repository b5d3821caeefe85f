"""Processes that are killed at a set moment of their work."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator

from datamodules.progress import T, Track


def kill_after(count: int, process: int) -> Track:
    """Progress that kills a process, with 0 the whole group of its own, when so many items are done."""

    def track(items: Iterable[T], title: str, total: int) -> Iterator[T]:
        for done, item in enumerate(items, 1):
            yield item
            if done == count:
                os.kill(process, signal.SIGKILL)

    return track
