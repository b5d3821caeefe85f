"""Private parts of other libraries that reading needs, each with the version it was written against.

Nothing else in `datamodules` may use these; `tests/datamodules/test_compat.py` fails when an update takes one away.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import Any, cast


def time_tasks_steadily() -> None:
    """Has pebble (5.2.3) measure a task's time by a clock that never jumps.

    It takes the clock of the day; one that is set while files are judged would make good files take too long.
    """
    import pebble  # the loader's processes need none of it

    clock = SimpleNamespace(time=time.monotonic, sleep=time.sleep)
    pebble.pool.process.time = clock  # type: ignore[assignment]  # a module otherwise


def workers_of(batches: Iterator[Any]) -> Sequence[BaseProcess]:
    """The processes that read for an iterator of a DataLoader (torch 2.11) with workers.

    Without them, a worker that was killed while it handed over a batch could not be distinguished from a broken pipe.
    """
    return cast(Any, batches)._workers
