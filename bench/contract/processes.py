"""Two processes or more (gloo) that work on one task; what stalls in them is an error and never outlives the test."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

RANKS = 2
LIMIT = timedelta(seconds=240)


def on_two_ranks(function: Callable[[int], Any], folder: Path, ranks: int = RANKS) -> Any:
    """What `function(rank)` gives on rank 0, all ranks being in one process group.

    Args:
        function: of a module, so that another process can import it.
        folder: an empty one, for the processes to meet in.
        ranks: how many; two, unless it is a test of other numbers.

    Raises:
        TimeoutError: they have not ended after `LIMIT`.
    """
    # Daemons end with this process, whatever becomes of the test.
    processes = mp.spawn(_on_a_rank, (function, str(folder), ranks), nprocs=ranks, join=False, daemon=True)
    deadline = time.monotonic() + LIMIT.total_seconds()
    while not processes.join(timeout=1):
        if time.monotonic() > deadline:
            for process in processes.processes:
                process.kill()
            raise TimeoutError(f"the {ranks} processes have not ended after {LIMIT}")
    return torch.load(folder / "results.pt")


def _on_a_rank(rank: int, function: Callable[[int], Any], folder: str, ranks: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=ranks, timeout=LIMIT / 2
    )
    results = function(rank)
    if rank == 0:
        torch.save(results, f"{folder}/results.pt")
    dist.destroy_process_group()
