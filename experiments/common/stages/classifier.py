"""The base of stages that classify: losses over labels that may be mixed and smoothed, and logits to be measured."""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar

from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.common.losses.classification import classification_loss
from experiments.common.stage import Model
from experiments.common.stages.network import NetworkStage

INPUT: dict[str, Literal["audio", "video"]] = {"a": "audio", "v": "video"}
"""Modality -> key of it in a batch."""


class Smoothed(Protocol):
    """Options of a classifier."""

    label_smoothing: float
    """Of the targets."""


SmoothedOptions = TypeVar("SmoothedOptions", bound=Smoothed)


class Classifier(NetworkStage[Model, SmoothedOptions]):
    """Subclasses build the network and write `logits`, unless it is `net` of one modality."""

    def logits(self, batch: Batch) -> Tensor:
        """[B, C]."""
        return self.net(batch[INPUT[self.spec.modality]])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": self.label_loss(self.logits(batch), batch["label"])}

    def label_loss(self, logits_BC: Tensor, label_BC: Tensor) -> Tensor:
        """Binary cross-entropy where a clip has several labels, else cross-entropy; labels are smoothed."""
        smoothing = self.spec.options.label_smoothing
        return classification_loss(logits_BC, label_BC, self.spec.multilabel, smoothing)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {self.spec.modality: self.logits(batch)}}
