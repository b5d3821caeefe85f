"""Stages that are fitted in one go (`FittedStage`), to the features of their training clips."""

from __future__ import annotations

from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from bench.errors import UserError
from bench.run.gathered import passed
from datamodules.base import AVDataModule
from datamodules.loading.loader import Loader
from datamodules.loading.mixture import order_of
from datamodules.loading.samplers import WholeEpochsSampler
from datamodules.types import Batch
from experiments.common.stage import FittedStage


class TrainingClips(AVDataModule):
    """Gives a test loop the clips of all epochs as a training has them, augmented, and leaves none of them out."""

    augments = True

    def test_dataloader(self) -> Loader:
        if self.train is None:
            raise UserError("a stage that is fitted in one go is fitted to clips of one dataset; leave its mixture out")
        order = order_of(self.train, self.config.loader, self.seed)
        process = self._trained
        batch = self.batch_size // process.world_size
        sampler = WholeEpochsSampler(order, self.epochs, batch, rank=process.global_rank, ranks=process.world_size)
        return self._loader(self.train, sampler)


class Features(Callback):
    """Keeps the features and labels of the test steps, of this process."""

    def __init__(self) -> None:
        self.kept: list[tuple[np.ndarray, ...]] = []

    def on_test_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, *_: Any
    ) -> None:
        features_BTD = outputs["features"].float().cpu()
        moments = features_BTD.shape[1]
        each = (batch["key"].cpu(), batch["label"].cpu())
        key_M, label_MC = (value.repeat_interleave(moments, 0) for value in each)
        self.kept.append((key_M.numpy(), features_BTD.flatten(0, 1).numpy(), label_MC.numpy()))

    def of_all(self, processes: int) -> tuple[np.ndarray, np.ndarray] | None:
        """([N, D] features, [N, C] labels) of all processes, in the order of the clips' keys; None but on the first."""
        parts: list[Any] = [self.kept]
        if processes > 1:
            parts = [None] * processes if dist.get_rank() == 0 else []
            dist.gather_object(self.kept, parts or None)
        if processes > 1 and dist.get_rank() != 0:
            return None
        kept = [each for part in parts for each in part]
        if not kept:
            raise UserError("not one of the clips to be fitted to could be read")
        key_N, features_ND, label_NC = (np.concatenate(each) for each in zip(*kept, strict=True))
        order = np.argsort(key_N, kind="stable")
        return features_ND[order], label_NC[order]


def fit(trainer: L.Trainer, module: FittedStage[Any, Any], data: TrainingClips, seed: int) -> str:
    """Fits the stage on the first process and gives all the same weights; returns what is reported of it."""
    features = Features()
    passed(trainer, module, data, features)
    found, said = features.of_all(trainer.world_size), ""
    if found is not None:
        features_ND, label_NC = found
        if not np.isfinite(features_ND).all():
            raise UserError("features of the training clips are NaN or infinite")
        said = module.fit(features_ND, label_NC, seed)
    weights = trainer.strategy.broadcast({name: value.cpu() for name, value in module.state_dict().items()})
    with torch.no_grad():
        module.load_state_dict(weights)
    return said
