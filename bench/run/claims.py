"""A stage is worked on by one run at a time, however many are started on one plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from filelock import FileLock, Timeout

from bench.config import launched
from bench.errors import UserError

LOCK = ".lock"
POLL_SECONDS = 0.5


@contextmanager
def claimed(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a stage's folder in the block; waits for another run that holds it. A run that is killed holds nothing.

    Of several processes that work together only the first claims.

    Raises:
        UserError: another run holds it, and others of this run have begun to wait for this process.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        if launched.launched() or dist.is_initialized():
            raise UserError(f"another run works on {folder}; wait for it, then give the same command") from None
        say(f"another run works on it, and is waited for ({folder / 'metrics.csv'} has its progress)")
        lock.acquire(poll_interval=POLL_SECONDS)
    except NotImplementedError:
        say(f"{folder} is on a disk without locks: make sure that no other run works on this plan")
    try:
        yield
    finally:
        lock.release()
