"""Convolutions and max pooling padded as TensorFlow and JAX pad `SAME`: where a stride leaves an odd number, the end
gets one more than the beginning. torch pads both alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def amounts(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """(before, after) along an axis of `size`, of which `ceil(size / stride)` places remain."""
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2


def padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...], value: float = 0.0) -> Tensor:
    """[B, C, ...] with each of the last axes padded."""
    each = [amounts(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]
    pads = [amount for pair in reversed(each) for amount in pair]  # torch names the last axis first
    return F.pad(x, pads, value=value) if any(pads) else x


class SameConv2d(nn.Conv2d):
    """Without a bias."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1):
        super().__init__(before, after, kernel, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(padded(input, self.kernel_size, self.stride))


class SameConv3d(nn.Conv3d):
    """Without a bias."""

    def __init__(self, before: int, after: int, kernel: tuple[int, int, int], stride: tuple[int, int, int] = (1, 1, 1)):
        super().__init__(before, after, kernel, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(padded(input, self.kernel_size, self.stride))


class SameMaxPool2d(nn.Module):
    """What is padded is never the maximum."""

    def __init__(self, kernel: int, stride: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        pair = (self.kernel,) * 2, (self.stride,) * 2
        return F.max_pool2d(padded(x_BCHW, *pair, value=-float("inf")), self.kernel, self.stride)


class SameMaxPool3d(nn.Module):
    """What is padded is never the maximum."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return F.max_pool3d(padded(x_BCTHW, self.kernel, self.stride, -float("inf")), self.kernel, self.stride)
