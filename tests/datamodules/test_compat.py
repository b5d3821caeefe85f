"""What reading needs of other libraries' private parts is still there."""

from __future__ import annotations

import inspect
import time

import pebble
from torch.utils.data import DataLoader

from datamodules import compat


def test_pebble_times_tasks_by_a_steady_clock() -> None:
    assert "time.time()" in inspect.getsource(pebble.pool.process)  # the clock that is replaced, by this name
    compat.time_tasks_steadily()
    first = pebble.pool.process.time.time()
    assert abs(first - time.monotonic()) < 60 and abs(first - time.time()) > 60


def test_torch_names_the_processes_of_a_loader() -> None:
    batches = iter(DataLoader(range(4), num_workers=2))
    processes = compat.workers_of(batches)
    assert len(processes) == 2 and all(process.is_alive() for process in processes)
    assert [int(batch) for batch in batches] == [0, 1, 2, 3]
