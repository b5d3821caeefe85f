"""The ConvNeXts that turn sound and pictures into features (UAVM, section III-A); frozen once they are trained.

A feature is what the last block gives, before the final LayerNorm: of sound its mean over the mel axis, of a frame its
mean over the picture. Both networks are the same but for the channels they look at.

Shape suffixes: B clips, F log-mel frames, M mel bins, T steps (of sound, F / 32; of video, frames), D channels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Literal, cast

import torchvision
from torch import Tensor, nn

from experiments.common.networks.convolutions import conv_norm_relu, one_channel
from experiments.common.networks.layers import LayerNorm


@dataclass
class ConvNeXtConfig:
    """The size of both extractors; the paper's are ConvNeXt-Base."""

    size: Literal["tiny", "small", "base", "large", "tiny_cpu"] = "base"
    """Of torchvision's ConvNeXt; `tiny_cpu` is a stack of plain convolutions of `widths` and `strides`."""
    widths: list[int] = field(default_factory=lambda: [16, 32, 64])
    """Of `tiny_cpu`: channels after each convolution; the last is the feature's D."""
    strides: list[int] = field(default_factory=lambda: [4, 4, 2])
    """Of `tiny_cpu`: their product is how many frames and mel bins, or pixels, a step covers; 32 as in a ConvNeXt."""


class Extractor(nn.Module):
    """What both have in common: `body` gives a map of D channels, `head` classifies a map's mean.

    In training, a ConvNeXt drops residual branches as torchvision's does (up to half of them in the base's last block),
    so a frozen extractor belongs in evaluation mode.
    """

    channels: int
    """Of what `body` looks at."""

    def __init__(self, config: ConvNeXtConfig, num_classes: int):
        super().__init__()
        if config.size == "tiny_cpu":
            self.body, self.dim = _plain(config, self.channels), config.widths[-1]
        else:
            network = torchvision.models.get_model(f"convnext_{config.size}", weights=None)
            network.features[0][0] = _stem(network.features[0][0], self.channels)
            self.body, self.dim = network.features, network.classifier[-1].in_features
        self.head = nn.Sequential(LayerNorm(self.dim), nn.Linear(self.dim, num_classes))


class AudioConvNeXt(Extractor):
    """[B, 1, F, M] log-mel -> [B, num_classes] logits (official `ConvNextOri`)."""

    channels = 1

    def features(self, audio_B1FM: Tensor) -> Tensor:
        """[B, T, D]: 990 frames are T = 30 steps, 1000 are 31; what is left over at the end is not seen."""
        return self._map(audio_B1FM).mean(dim=2).transpose(1, 2)

    def forward(self, audio_B1FM: Tensor) -> Tensor:
        return self.head(self._map(audio_B1FM).mean(dim=(2, 3)))

    def _map(self, audio_B1FM: Tensor) -> Tensor:
        """[B, D, M / 32, F / 32]: rows are mel bins and columns time, as the released weights want it."""
        return self.body(audio_B1FM.transpose(2, 3))


class VideoConvNeXt(Extractor):
    """[B, 3, T, H, W] frames, each by itself -> [B, num_classes] logits of their mean.

    UAVM never trains it: it has ImageNet's weights. The classifier is there so that a small one can be trained.
    """

    channels = 3

    def features(self, video_B3THW: Tensor) -> Tensor:
        """[B, T, D], one step a frame, of any height and width from 32 pixels on (official `GlobalAvgPool`)."""
        frames = video_B3THW.transpose(1, 2)
        return self.body(frames.flatten(0, 1)).mean(dim=(2, 3)).unflatten(0, frames.shape[:2])

    def forward(self, video_B3THW: Tensor) -> Tensor:
        return self.head(self.features(video_B3THW).mean(dim=1))


def _stem(rgb: nn.Conv2d, channels: int) -> nn.Conv2d:
    """The 4 x 4 convolution for so many channels; one channel has the sum of the RGB kernel (`ConvNextOri`)."""
    if channels == rgb.in_channels:
        return rgb
    kernel_size, stride = cast(tuple[int, int], rgb.kernel_size), cast(tuple[int, int], rgb.stride)
    stem = nn.Conv2d(channels, rgb.out_channels, kernel_size, stride)
    stem.weight = nn.Parameter(one_channel(rgb.weight.detach()))
    stem.bias = rgb.bias
    return stem


def _plain(config: ConvNeXtConfig, channels: int) -> nn.Sequential:
    """Overlapping convolutions with batch norm; n rows become n // stride, as in a ConvNeXt's."""
    if len(config.widths) != len(config.strides):
        raise ValueError(f"model.extractor has {len(config.widths)} widths but {len(config.strides)} strides")
    layers: list[nn.Module] = []
    for (before, after), stride in zip(itertools.pairwise([channels, *config.widths]), config.strides, strict=True):
        layers += conv_norm_relu(before, after, kernel_size=stride + 2, stride=stride, padding=1)
    return nn.Sequential(*layers)
