"""The baseline's one stage: a classifier of sound, trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from datamodules.types import Batch, Outputs
from experiments.baseline_cnn.model import CNN, CNNConfig
from experiments.common.losses.classification import classification_loss
from experiments.common.stage import Stage, StageSpec
from experiments.common.weights import load_strict


@dataclass
class TrainOptions:
    label_smoothing: float = 0.0
    """Of the targets."""


class Train(Stage):
    """Log-mel -> classes; labels may be mixed."""

    model_config = CNNConfig
    options_config = TrainOptions
    channels_last = True

    def __init__(self, spec: StageSpec):
        super().__init__(spec)
        self.net = CNN(spec.model, spec.num_classes)

    def load_parent(self, weights: Mapping[str, Tensor]) -> None:
        """From another dataset's network of the same size; the head is new."""
        load_strict(self, {k: v for k, v in weights.items() if not k.startswith("net.head.")}, new=("net.head",))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        smoothing = self.spec.options.label_smoothing
        loss = classification_loss(self.net(batch["audio"]), batch["label"], self.spec.multilabel, smoothing)
        return self.logged({"loss": loss}, batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Outputs:
        return {"logits": {"a": self.net(batch["audio"])}}
