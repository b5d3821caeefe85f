"""Clips are compared by what a frozen network makes of them; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass

from datamodules.types import Batch, Outputs
from experiments.common.stage import Model
from experiments.common.stages.frozen import FrozenNetwork


@dataclass
class NeighboursOptions:
    """Neighbours have no numbers of their own."""


class NearestNeighbours(FrozenNetwork[Model, NeighboursOptions]):
    """For a board of `Neighbours`, which searches the training clips. Subclasses build the network, load what it starts
    from, and write `embed`."""

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"embedding": {self.spec.modality: self.embed(batch)}}
