"""XDC's networks: an encoder of clips and one of sound, which share nothing.

Shape suffixes: B clips, T frames, H and W pixels, F frames and M mel bins of a log-mel, D = the length of a feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from experiments.common.networks.resnet import ResNet, ResNetConfig
from experiments.common.networks.video_resnet import VideoResNet, VideoResNetConfig

TARGETS: Mapping[str, Mapping[str, str]] = {
    "xdc": {"v": "a", "a": "v"},
    "sdc": {"v": "v", "a": "a"},
    "mdc": {"v": "va", "a": "va"},
    "cdc": {"v": "v", "a": "a"},
}
"""Form -> encoder -> whose clusters it learns. Those of `cdc` are found in both features together, so that the clusters
of `v` and of `a` are the same."""


@dataclass
class XDCConfig:
    """Both networks, and what they learn."""

    form: Literal["xdc", "sdc", "mdc", "cdc"] = "xdc"
    """The clusters that an encoder learns: the other's, its own, both of these (with a head each), or those of the two
    features together."""
    clusters: int = 256
    """k, of each clustering."""
    video: VideoResNetConfig = field(default_factory=VideoResNetConfig)
    audio: ResNetConfig = field(default_factory=ResNetConfig)


class Encoders(nn.ModuleDict):
    """Of the modalities of a stage, by `v` and `a`."""

    def __init__(self, config: XDCConfig, modality: str):
        """Builds those that the modality names.

        Raises:
            ValueError: features of the two differ in length.
        """
        super().__init__()
        self.width = config.video.widths[-1]
        if config.audio.widths[-1] != self.width:
            raise ValueError(f"model.video.widths end in {self.width}, model.audio.widths in {config.audio.widths[-1]}")
        if "v" in modality:
            self["v"] = VideoResNet(config.video)
        if "a" in modality:
            self["a"] = ResNet(config.audio)

    def see(self, video_B3THW: Tensor) -> Tensor:
        """[B, D]."""
        return self["v"](video_B3THW)

    def hear(self, audio_B1FM: Tensor) -> Tensor:
        """[B, D], of the log-mel as a picture of M x F, whose mean is taken over both."""
        return self["a"](audio_B1FM.transpose(2, 3)).mean(dim=(2, 3))


class Heads(nn.ModuleDict):
    """The linear classifiers of clusters: encoder -> whose clusters -> layer, as `TARGETS` has them."""

    def __init__(self, config: XDCConfig):
        super().__init__()
        for encoder, targets in TARGETS[config.form].items():
            layers = {of: nn.Linear(config.video.widths[-1], config.clusters) for of in targets}
            self[encoder] = nn.ModuleDict(layers)
            for layer in layers.values():  # torchvision's for the last layer of its `VideoResNet`
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
