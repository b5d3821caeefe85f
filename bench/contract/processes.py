"""Two processes or more (gloo) that work on one task; what stalls in them is an error and never outlives the test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

RANKS = 2
LIMIT = timedelta(seconds=240)
"""For one of them to wait for the others: first of all, until they have imported everything."""
GRACE_SECONDS = 60
"""For the others to end after rank 0."""


def on_two_ranks(function: Callable[[int], Any], folder: Path, ranks: int = RANKS) -> Any:
    """What `function(rank)` gives on rank 0, all ranks being in one process group.

    Rank 0 is this process, so that one less has to import everything.

    Args:
        function: of a module, so that another process can import it.
        folder: an empty one, for the processes to meet in.
        ranks: how many; two, unless it is a test of other numbers.

    Raises:
        RuntimeError: one of them has waited for the others for longer than `LIMIT`.
        ProcessRaisedException: another rank than 0 has failed.
    """
    # Daemons end with this process, whatever becomes of the test.
    others = mp.spawn(_on_another_rank, (function, folder, ranks), nprocs=ranks - 1, join=False, daemon=True)
    try:
        found = _on_a_rank(0, function, folder, ranks)
    except Exception:
        others.join(timeout=GRACE_SECONDS)  # where another rank has failed, that is raised
        raise
    finally:
        for process in others.processes:
            process.join(GRACE_SECONDS)
            process.kill()
    others.join()
    return found


def _on_another_rank(index: int, function: Callable[[int], Any], folder: Path, ranks: int) -> None:
    torch.set_num_threads(1)
    _on_a_rank(1 + index, function, folder, ranks)


def _on_a_rank(rank: int, function: Callable[[int], Any], folder: Path, ranks: int) -> Any:
    meeting = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks, timeout=LIMIT)
    try:
        return function(rank)
    finally:
        dist.destroy_process_group()
