"""Convolutions that small networks for CPUs are made of, and kernels for other channels than they were trained on."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


def conv_norm_relu(
    before: int, after: int, *, kernel_size: int, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    """A 2-D convolution without bias, batch norm and ReLU; what can be set are the convolution's options."""
    convolution = nn.Conv2d(before, after, kernel_size, stride, padding, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]


def one_channel(rgb_DCHW: Tensor, how: Literal["sum", "mean"] = "sum") -> Tensor:
    """[D, 3, H, W] -> [D, 1, H, W]: a kernel for pictures becomes one for a log-mel.

    The `sum` is what the kernel makes of three equal channels; the `mean` is a third of that.
    """
    return rgb_DCHW.sum(1, keepdim=True) if how == "sum" else rgb_DCHW.mean(1, keepdim=True)
