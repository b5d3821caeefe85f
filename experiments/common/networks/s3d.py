"""S3D-G (Xie et al., ECCV 2018, arXiv 1712.04851) in the form of MMV (deepmind-research `mmv/models/s3d.py`): Inception
v1 of clips, whose convolutions over space and time are one over space and one over time, with gates on channels.

Padding is TensorFlow's `SAME`. Names of branches are the official ones, shortened.

Shape suffixes: B clips, T frames, H and W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.common.networks.resnet_v2 import initialise
from experiments.common.networks.same_padding import SameConv3d, SameMaxPool3d

MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
"""Channels of each block: of the first branch, of the second and third within and after, of the one that pools."""
POOLS = {"3b": ((1, 3, 3), (1, 2, 2)), "4b": ((3, 3, 3), (2, 2, 2)), "5b": ((2, 2, 2), (2, 2, 2))}
"""Block -> kernel and stride of the pooling before it."""


@dataclass
class S3DConfig:
    """The network's size; all defaults are S3D-G's."""

    narrower: int = 1
    """Divisor of all channels."""
    space_to_depth: bool = True
    """The first convolution reads blocks of 2 x 2 x 2 pixels as channels and has a kernel of 2 x 4 x 4, as in the
    released weights (`eval_ucf101.py`), instead of one of 7 x 7 x 7 with a stride of 2. Frames and sides must be
    even."""


class Unit(nn.Module):
    """Convolutions, each with batch norm and ReLU: one, or one over space and one over time; then gates, if any."""

    def __init__(self, before: int, after: int, kernels: list[tuple[int, int, int]], gated: bool, stride: int = 1):
        super().__init__()
        self.convs = nn.ModuleList(
            SameConv3d(before if i == 0 else after, after, kernel, (stride,) * 3) for i, kernel in enumerate(kernels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm3d(after) for _ in kernels)
        self.gate = nn.Linear(after, after) if gated else None

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x_BCTHW = norm(conv(x_BCTHW)).relu()
        if self.gate is None:
            return x_BCTHW
        return torch.sigmoid(self.gate(x_BCTHW.mean((2, 3, 4))))[:, :, None, None, None] * x_BCTHW


POINT = [(1, 1, 1)]


def space_and_time(frames: int) -> list[tuple[int, int, int]]:
    """Kernels of a separable convolution over `frames`."""
    return [(1, 3, 3), (frames, 1, 1)]


class Mixed(nn.Module):
    """Four branches, side by side."""

    def __init__(self, before: int, channels: list[int], frames: int):
        super().__init__()
        first, within1, after1, within2, after2, pooled = channels
        separable = space_and_time(frames)
        self.branch0 = Unit(before, first, POINT, gated=True)
        self.branch1 = nn.Sequential(Unit(before, within1, POINT, False), Unit(within1, after1, separable, True))
        self.branch2 = nn.Sequential(Unit(before, within2, POINT, False), Unit(within2, after2, separable, True))
        self.branch3 = nn.Sequential(SameMaxPool3d((3, 3, 3), (1, 1, 1)), Unit(before, pooled, POINT, True))
        self.width = first + after1 + after2 + pooled

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return torch.cat([branch(x_BCTHW) for branch in (self.branch0, self.branch1, self.branch2, self.branch3)], 1)


class S3D(nn.Module):
    """[B, 3, T, H, W] -> [B, 1024 / narrower], the mean over time and space.

    Args:
        config: its size.
        deflated: of pictures, T = 1: no kernel reaches over time, and the stem reads no two frames.
    """

    def __init__(self, config: S3DConfig, deflated: bool = False):
        super().__init__()
        self.config = config
        time, frames = (1, 1) if deflated else (2, 3)
        wide, middle = 64 // config.narrower, 192 // config.narrower
        self.phases: tuple[int, ...] = (time, 2, 2) if config.space_to_depth else ()
        if config.space_to_depth:
            stem = Unit(3 * 4 * time, wide, [(time, 4, 4)], gated=False)
        else:
            stem = Unit(3, wide, [(1 if deflated else 7, 7, 7)], gated=False, stride=2)
        self.stem = nn.Sequential(
            stem,
            SameMaxPool3d((1, 3, 3), (1, 2, 2)),
            Unit(wide, wide, POINT, gated=False),
            Unit(wide, middle, space_and_time(frames), gated=True),
        )
        self.mixed, before = nn.ModuleDict(), middle
        for name, channels in MIXED.items():
            block = Mixed(before, [c // config.narrower for c in channels], frames)
            self.mixed[name], before = block, block.width
        self.pools = nn.ModuleDict({name: SameMaxPool3d(*pool) for name, pool in POOLS.items()})
        self.width = before
        initialise(self)

    def forward(self, video_B3THW: Tensor) -> Tensor:
        x_BCTHW = self.stem(to_depth(video_B3THW, self.phases) if self.phases else video_B3THW)
        for name, block in self.mixed.items():
            x_BCTHW = block(self.pools[name](x_BCTHW) if name in self.pools else x_BCTHW)
        return x_BCTHW.mean((2, 3, 4))


def to_depth(video_BCTHW: Tensor, phases: tuple[int, ...]) -> Tensor:
    """[B, C, T, H, W] -> [B, t * h * w * C, T / t, H / h, W / w]: what lies in a block of t x h x w becomes channels,
    in this order (`eval_ucf101.py` `space_to_depth_batch`).

    Raises:
        ValueError: an axis is no multiple of its block.
    """
    sizes = tuple(video_BCTHW.shape[2:])
    if any(size % phase for size, phase in zip(sizes, phases, strict=True)):
        raise ValueError(
            f"frames, height and width {sizes} must be multiples of {phases}: S3D-G reads blocks of them; set "
            f"data.inputs.video.frames and .size, or model.s3d.space_to_depth=false"
        )
    t, h, w = phases
    x = video_BCTHW.unflatten(4, (-1, w)).unflatten(3, (-1, h)).unflatten(2, (-1, t))  # B C T t H h W w
    return x.permute(0, 3, 5, 7, 1, 2, 4, 6).flatten(1, 4)
