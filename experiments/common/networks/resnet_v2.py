"""ResNet v2 (He et al., ECCV 2016, arXiv 1603.05027) of bottlenecks, in MMV's form (deepmind-research
`mmv/models/resnet.py` and `tsm_resnet.py`), for log-mels and, with the temporal shift of TSM (Lin et al., ICCV 2019,
arXiv 1811.08383), for pictures.

Norm and ReLU stand before each convolution and none follow the first one; padding is TensorFlow's `SAME`.

Shape suffixes: N pictures, B clips, T frames, C channels, D = the last of `widths`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from experiments.common.networks.same_padding import SameConv2d, SameMaxPool2d

SHIFTED = 8
"""One channel in so many is taken from the frame before, and as many from the one after (`channel_shift_fraction`)."""


@dataclass
class ResNetV2Config:
    """Defaults are ResNet-50."""

    stem: int = 64
    """Channels of the first convolution."""
    widths: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048])
    """Channels that each stage gives out, of which a quarter is within its blocks; all but the first stage halve both
    sides."""
    blocks: list[int] = field(default_factory=lambda: [3, 4, 6, 3])
    """Blocks of each stage."""


class TemporalShift(nn.Module):
    """[B * T, C, H, W] -> the same shape: of each frame the first eighth of the channels comes from the frame before
    and the last from the frame after, zeros beyond the ends.

    Officially the two eighths change places, too; that is left to the weights that follow (`mmv/checkpoints.py`), so
    that a network whose shift is left out is one of pictures with the same weights.
    """

    frames = 1
    """T, which the network sets for each batch."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        few = x_NCHW.shape[1] // SHIFTED
        x_BTCHW = x_NCHW.unflatten(0, (-1, self.frames))
        before, middle, after = x_BTCHW.split([few, x_NCHW.shape[1] - 2 * few, few], dim=2)
        edge = torch.zeros_like(before[:, :1])
        before, after = torch.cat([edge, before[:, :-1]], 1), torch.cat([after[:, 1:], edge], 1)
        return torch.cat([before, middle, after], 2).flatten(0, 1)


class BottleneckV2(nn.Module):
    """1 x 1, 3 x 3, 1 x 1, beside the input or, in a stage's first block, beside a linear map of the activation."""

    def __init__(self, before: int, after: int, stride: int, first: bool, shift: TemporalShift | None):
        super().__init__()
        inner = after // 4
        self.norm0, self.norm1, self.norm2 = (nn.BatchNorm2d(channels) for channels in (before, inner, inner))
        self.conv0, self.conv1 = SameConv2d(before, inner, 1), SameConv2d(inner, inner, 3, stride)
        self.conv2 = SameConv2d(inner, after, 1)
        self.shortcut = SameConv2d(before, after, 1, stride) if first else None
        self.shift = shift

    def forward(self, x_NCHW: Tensor) -> Tensor:
        active = self.norm0(x_NCHW).relu()
        beside = x_NCHW if self.shortcut is None else self.shortcut(active)
        y = self.conv0(active if self.shift is None else self.shift(active))
        y = self.conv1(self.norm1(y).relu())
        return beside + self.conv2(self.norm2(y).relu())


class ResNetV2(nn.Module):
    """[N, channels, X, Y] -> [N, D], the mean over both sides of the last, normalised map."""

    def __init__(self, config: ResNetV2Config, channels: int, shift: TemporalShift | None = None):
        super().__init__()
        self.stem = nn.Sequential(SameConv2d(channels, config.stem, 7, 2), SameMaxPool2d(3, 2))
        before, stages = config.stem, []
        for number, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stride = 1 if number == 0 else 2
            made = [BottleneckV2(before, width, stride, True, shift)]
            made += [BottleneckV2(width, width, 1, False, shift) for _ in range(blocks - 1)]
            stages.append(nn.Sequential(*made))
            before = width
        self.stages = nn.Sequential(*stages)
        self.norm, self.width = nn.BatchNorm2d(before), before
        initialise(self)

    def forward(self, x_NCXY: Tensor) -> Tensor:
        return self.norm(self.stages(self.stem(x_NCXY))).relu().mean((2, 3))


class TSMResNetV2(nn.Module):
    """[B, 3, T, H, W] -> [B, D], the mean over time; the same weights as those of a `ResNetV2` of pictures."""

    def __init__(self, config: ResNetV2Config):
        super().__init__()
        self.shift = TemporalShift()
        self.frames = ResNetV2(config, 3, self.shift)
        self.width = self.frames.width

    def forward(self, video_B3THW: Tensor) -> Tensor:
        self.shift.frames = video_B3THW.shape[2]
        return self.frames(video_B3THW.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, self.shift.frames)).mean(1)


def initialise(net: nn.Module) -> None:
    """As Haiku begins: kernels from a normal distribution of variance 1 / inputs, cut off at two deviations."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            deviation = module.weight[0].numel() ** -0.5
            nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
