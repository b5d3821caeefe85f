"""The exponential moving mean of the weights (`stages.<stage>.ema`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from bench.run.compat import lerp


class Ema(Callback):
    """Follows the weights, m <- d m + (1 - d) w after each step, and puts the mean in their place when training ends.

    Batch norm's statistics are averaged, too; what only counts (whole numbers) is the last step's.

    Args:
        decay: d.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.mean: dict[str, Tensor] = {}
        self._weights: list[Tensor] = []
        self._step = 0

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        weights = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
        start = self.mean or weights
        self.mean = {name: start[name].to(value.device, torch.float32, copy=True) for name, value in weights.items()}
        # These share their memory with the module's, so they are always the present ones.
        self._weights, self._step = list(weights.values()), trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self._step:  # a part of a batch
            return
        self._step = trainer.global_step
        lerp(list(self.mean.values()), [w.float() for w in self._weights], 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the mean has the weights' place."""
        own = [weight.clone() for weight in self._weights]
        self._take_place()
        try:
            yield
        finally:
            for weight, value in zip(self._weights, own, strict=True):
                weight.copy_(value)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._take_place()

    def _take_place(self) -> None:
        for mean, weight in zip(self.mean.values(), self._weights, strict=True):
            weight.copy_(mean)
