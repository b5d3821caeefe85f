"""Trainings that end after as many epochs as another stage's validation chose (`stages.<stage>.epochs_of`)."""

from __future__ import annotations

import json
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from bench.plan.graph import PlannedStage
from bench.plan.layout import VALIDATION


def last_step(stage: PlannedStage) -> int:
    """After how many steps the stage's training ends."""
    if stage.epochs_of is None:
        return stage.steps
    chosen: int = json.loads((stage.epochs_of.folder / VALIDATION).read_text())["epoch"]
    return chosen * stage.spec.steps_per_epoch


class EndAfter(Callback):
    """Ends the training after a step that is not the last of its schedule.

    Args:
        step: which.
    """

    def __init__(self, step: int):
        self.step = step

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._end(trainer)  # a checkpoint may have been saved after it

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        self._end(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        if trainer.global_step >= self.step:
            trainer.should_stop = True
