"""Classes of pictures."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from datamodules.types import Batch
from experiments.common.networks.convolutions import conv_norm_relu
from experiments.common.stage import StageSpec
from experiments.common.stages.classifier import Classifier


@dataclass
class Size:
    width: int = 8
    """Channels of the first layer."""


@dataclass
class Options:
    label_smoothing: float = 0.0


class Train(Classifier[Size, Options]):
    def __init__(self, spec: StageSpec[Size, Options]):
        super().__init__(spec)
        channels = [3, *(spec.model.width * 2**depth for depth in range(3))]
        layers = [
            layer
            for before, after in zip(channels, channels[1:], strict=False)
            for layer in conv_norm_relu(before, after, kernel_size=3, stride=2, padding=1)
        ]
        self.net = nn.Sequential(
            *layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(channels[-1], spec.num_classes)
        )

    def logits(self, batch: Batch) -> Tensor:
        return self.net(batch["image"])
