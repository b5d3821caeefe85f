"""The baseline's one stage: a classifier of sound, trained from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from experiments.baseline_cnn.model import CNN, CNNConfig
from experiments.common.stage import StageSpec
from experiments.common.stages.classifier import Classifier
from experiments.common.weights import load_strict


@dataclass
class TrainOptions:
    label_smoothing: float = 0.0
    """Of the targets."""


class Train(Classifier[CNNConfig, TrainOptions]):
    """Log-mel -> classes; labels may be mixed."""

    channels_last = True

    def __init__(self, spec: StageSpec[CNNConfig, TrainOptions]):
        super().__init__(spec)
        if spec.modality != "a":
            raise ValueError(f"modality={spec.modality}: the baseline looks at a")
        self.net = CNN(spec.model, spec.num_classes)

    def load_net(self, weights: Mapping[str, Tensor]) -> None:
        """From another dataset's network of the same size; the head is new."""
        load_strict(self.net, {k: v for k, v in weights.items() if not k.startswith("head.")}, new=("head",))
