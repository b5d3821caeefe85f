"""Validation by the stage's own loss (`validation.metric: loss`), for trainings that no board measures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import lightning as L
from torch import Tensor

from bench.errors import UserError
from bench.run.callbacks import seed_step
from bench.run.gathered import of_all_processes
from bench.run.validation import Validation, batches, evaluating
from datamodules.keyed import stable_hash
from experiments.common.stage import Stage


class LossValidation(Validation):
    """Measures the mean over the clips of the loss, and of the terms beside it, each clip once, of all processes.

    The network is in evaluation mode and nothing is augmented. What the loss draws is the same at each validation: a
    clip's key is that of evaluation, and torch's generators are seeded before each batch.
    """

    def _outcome(self, trainer: L.Trainer, module: L.LightningModule, epoch: int) -> tuple[int, dict[str, float]]:
        sums: dict[str, Tensor] = {}
        ids: set[str] = set()
        views = 0
        stage = cast(Stage[Any, Any], module)
        with evaluating(trainer, stage), as_it_was(stage):
            for place, batch in batches(trainer):
                seed_step(stable_hash("validation", self.stage.drawn, place, trainer.global_rank), stage.device)
                count = len(batch["clip_id"])
                for name, value in stage.losses(batch).items():
                    sums[name] = sums.get(name, 0) + value.detach().double() * count
                ids.update(batch["clip_id"])
                views += count
        mine = (len(ids), views, {name: float(total) for name, total in sums.items()})
        parts = of_all_processes(mine, trainer.world_size)
        clips, views = (sum(part[place] for part in parts) for place in (0, 1))
        if not clips:
            raise UserError("not one of the clips to be measured could be read")
        names = dict.fromkeys(name for *_, totals in parts for name in totals)
        found = {name: sum(totals.get(name, 0.0) for *_, totals in parts) / views for name in names}
        self.require_finite(found, clips, epoch)
        return clips, found


@contextmanager
def as_it_was(module: L.LightningModule) -> Iterator[None]:
    """Afterwards the module keeps from step to step what it kept before, as after a restart; its buffers are seen to by
    those who validate."""
    kept: dict[str, Any] = {}
    module.on_save_checkpoint(kept)
    kept = deepcopy(kept)
    try:
        yield
    finally:
        module.on_load_checkpoint(kept)
