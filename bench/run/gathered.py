"""The outputs of several processes for the clips of a split, put together: each clip once, in the manifest's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from bench import tasks
from bench.errors import UserError
from bench.run.compat import callbacks_of
from datamodules.types import Batch, Scale


class Collect(Callback):
    """Keeps the outputs of the test steps that a task measures, clip by clip, on this rank."""

    def __init__(self, task: tasks.Task[Any]) -> None:
        self.task = task
        self.clip_id: list[str] = []
        self.target: list[Tensor] = []
        self.scores: dict[str, list[Tensor]] = {}
        self.scale: Scale = "logits"

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        self.add(outputs, batch)

    def add(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """The outputs of one batch."""
        self.clip_id += batch["clip_id"]
        self.target.append(self.task.target(batch).cpu())
        given = self.task.given(outputs)
        self.scale = given.scale
        for modality, scores in given.scores.items():
            self.scores.setdefault(modality, []).append(scores.float().cpu())


def passed(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule, callback: Callback) -> None:
    """Gives all clips of `data.test_dataloader` to the module once, and what it makes of them to the callback."""
    callbacks_of(trainer).append(callback)
    try:
        trainer.test(module, datamodule=data, verbose=False)
    finally:
        callbacks_of(trainer).remove(callback)


def of_all_processes(mine: Any, processes: int) -> list[Any]:
    """What each process has, in the order of their ranks; to be called on each of them."""
    if processes == 1:
        return [mine]
    parts: list[Any] = [None] * processes
    dist.all_gather_object(parts, mine)
    return parts


def gathered(collected: Collect, clips: pd.Series, processes: int) -> tasks.Predictions:
    """What all processes have collected; to be called on each of them.

    Args:
        collected: of this process.
        clips: the ids of all clips, in the order that is wanted of the result.
        processes: how many there are.

    Raises:
        UserError: nothing was collected.
    """
    mine = {
        "clip_id": collected.clip_id,
        "target": torch.cat(collected.target).numpy() if collected.target else None,
        "scores": {k: torch.cat(v).numpy() for k, v in collected.scores.items()},
        "scale": collected.scale,
    }
    parts = [part for part in of_all_processes(mine, processes) if part["clip_id"]]
    if not parts:
        raise UserError("not one of the clips to be measured could be read")
    rows = one_row_a_clip(
        [clip for part in parts for clip in part["clip_id"]],
        np.concatenate([part["target"] for part in parts]),
        {name: np.concatenate([part["scores"][name] for part in parts]) for name in parts[0]["scores"]},
        clips,
        collected.task.predictions,
    )
    return replace(rows, scale=parts[0]["scale"])


def one_row_a_clip(
    clip_id: Sequence[str],
    target: np.ndarray,
    scores: Mapping[str, np.ndarray],
    clips: pd.Series,
    shape: type[tasks.Predictions] = tasks.Predictions,
) -> tasks.Predictions:
    """The mean of the scores over the views of each clip, however many of them could be read.

    Args:
        clip_id: [n] of each view, in any order.
        target: [n, ...].
        scores: modality -> [n, ...].
        clips: all clips, in the order that is wanted of the result.
        shape: the task's class of predictions.
    """
    place = pd.Index(clips).get_indexer(clip_id)
    order = np.argsort(place, kind="stable")
    # The views of a clip now lie one after the other.
    first = np.flatnonzero(np.diff(place[order], prepend=-1))
    views = np.diff(first, append=len(order))
    return shape(
        clip_id=clips.iloc[place[order][first]].tolist(),
        target=target[order][first],
        scores={
            name: (np.add.reduceat(rows[order], first, dtype=np.float64).T / views).T.astype(rows.dtype)
            for name, rows in scores.items()
        },
    )
