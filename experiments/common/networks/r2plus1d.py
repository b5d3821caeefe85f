"""R(2+1)D for pictures in the form of AVID (Morgado et al.; AVID-CMA `models/network_blocks.py`), which CrissCross has.

Convolutions in space and in time alternate with as many channels between them as after them (Tran et al. choose more),
and the shortcut is added before a block's last norm.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass
class R2Plus1DConfig:
    """Defaults are R(2+1)D-18."""

    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    """Channels of each stage; all but the first halve time and both sides of the picture."""
    blocks: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    """Residual blocks of each stage."""


def _space(before: int, after: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(before, after, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)


def _time(width: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(width, width, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)


class ResidualBlock(nn.Module):
    """Space, time, space, time; the first two have the stride, and a 1 x 1 x 1 convolution takes the shortcut along."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.main = nn.Sequential(
            *(_space(before, after, stride), nn.BatchNorm3d(after), nn.ReLU(inplace=True)),
            *(_time(after, stride), nn.BatchNorm3d(after), nn.ReLU(inplace=True)),
            *(_space(after, after, 1), nn.BatchNorm3d(after), nn.ReLU(inplace=True)),
            _time(after, 1),
        )
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = nn.Conv3d(before, after, 1, stride, bias=False)
        self.norm, self.relu = nn.BatchNorm3d(after), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.norm(self.main(x) + self.shortcut(x)))


class R2Plus1D(nn.Module):
    """[B, 3, T, H, W] -> [B, width, T / 8, H / 32, W / 32], the last stage's map, each side rounded up."""

    def __init__(self, config: R2Plus1DConfig):
        super().__init__()
        first = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv3d(3, first, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(first),
            nn.ReLU(inplace=True),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
        )
        before, stages = first, []
        for number, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stride = 1 if number == 0 else 2
            stages.append(
                nn.Sequential(
                    ResidualBlock(before, width, stride), *(ResidualBlock(width, width, 1) for _ in range(blocks - 1))
                )
            )
            before = width
        self.stages = nn.Sequential(*stages)
        self.width = before

    def forward(self, video_B3THW: Tensor) -> Tensor:
        return self.stages(self.stem(video_B3THW))
