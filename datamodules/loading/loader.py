"""Clips -> batches: the loader, its processes and how clips are put together.

Free of Lightning: each worker imports this module anew, and Lightning would triple the time that takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, cast

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from datamodules.compat import workers_of
from datamodules.processes import WorkerContext, any_ends, deaf_processes
from datamodules.streams.kind import LENGTH
from datamodules.types import RawBatch

PARTNER = "partner"
"""Key of the clip that is to be mixed into a clip, see `mixing.py`."""


class Several(list):
    """What is read of a clip more than once under one name: of several windows or other clips. A batch has those of its
    clips one after the other, as if each were a clip's."""


def collate(items: Sequence[Sequence[dict[str, Any]]]) -> RawBatch | None:
    """Stacks the clips of all items, padding with zeros at the end; None if not one could be read.

    What has its length beside it, as `audio` has `audio_length`, is padded to the longest of the batch. The partners
    of the clips that have one are a batch of their own within it.
    """
    clips = [clip for item in items for clip in item]
    if not clips:
        return None
    batch = _stacked(clips)
    if places := [place for place, clip in enumerate(clips) if PARTNER in clip]:
        batch["partner"] = _stacked([clips[place][PARTNER] for place in places])
        batch["partner_place"] = torch.tensor(places)
    return batch


def _stacked(clips: Sequence[dict[str, Any]]) -> RawBatch:
    batch: dict[str, Any] = {"key": torch.tensor([clip["key"] for clip in clips])}
    for name in clips[0].keys() - batch.keys() - {PARTNER}:
        values = [clip[name] for clip in clips]
        if isinstance(values[0], Several):
            values = list(chain(*values))
        if isinstance(values[0], str):
            batch[name] = values
        elif f"{name}_{LENGTH}" in clips[0]:
            batch[name] = nn.utils.rnn.pad_sequence(values, batch_first=True)
        else:
            batch[name] = torch.stack(values)
    return cast(RawBatch, batch)


def worker_count(wanted: int, ranks_here: int = 1) -> int:
    """Loader processes of a rank: as wanted, or its share of the cores less one, at most 16."""
    if wanted >= 0:
        return wanted
    return max(0, min(16, cores() // ranks_here - 1))


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Loader(DataLoader):
    """A DataLoader that counts the seconds for which its batches were waited for. Those of which not one clip could be
    read, as happens in evaluation, are left out.

    A signal to the whole process group does not stop its workers: they serve batches until the run ends.

    Args:
        num_workers: processes that read, see `WorkerProcess`; 0: this one.
        options: `DataLoader`'s others.
    """

    waited = 0.0

    def __init__(self, dataset: Dataset, *, num_workers: int = 0, **options: Any):
        context = WorkerContext() if num_workers else None
        super().__init__(dataset, num_workers=num_workers, multiprocessing_context=context, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch says its own class, and needs an iterator
        with deaf_processes():
            batches = super().__iter__()
        while True:
            began = time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (OSError, EOFError) as error:
                if self.num_workers and any_ends(workers_of(batches)):
                    raise RuntimeError("a DataLoader worker exited unexpectedly") from error
                raise
            finally:
                self.waited += time.monotonic() - began
            if batch is not None:
                yield batch
