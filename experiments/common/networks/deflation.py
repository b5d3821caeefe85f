"""Deflation: a network of clips becomes one of pictures (MMV). Kernels are summed over time, and the shift is left out,
so that of a picture it computes what the network of clips does of the picture repeated for ever; that one pads time
with zeros, which only refitting makes up for."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from experiments.common.networks.resnet_v2 import ResNetV2, ResNetV2Config
from experiments.common.networks.s3d import S3D, S3DConfig
from experiments.common.weights import load_strict, without_prefix


class Deflated(nn.Module):
    """[B, 3, H, W] -> [B, D].

    Args:
        config: of the network of clips, a `TSMResNetV2` or an `S3D`.
    """

    def __init__(self, config: ResNetV2Config | S3DConfig):
        super().__init__()
        self.net = S3D(config, deflated=True) if isinstance(config, S3DConfig) else ResNetV2(config, 3)
        self.width = self.net.width

    def forward(self, picture_B3HW: Tensor) -> Tensor:
        return self.net(picture_B3HW[:, :, None] if isinstance(self.net, S3D) else picture_B3HW)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes those of the network of clips.

        Raises:
            ValueError: naming every key that does not fit.
        """
        if isinstance(self.net, S3D):
            phases = self.net.config.space_to_depth
            summed = {key: _summed(value, phases and key == STEM) for key, value in weights.items()}
            load_strict(self.net, summed)
        else:
            load_strict(self.net, without_prefix(weights, "frames."))


def repeated(picture_B3HW: Tensor, frames: int) -> Tensor:
    """[B, 3, H, W] -> [B, 3, frames, H, W]."""
    return picture_B3HW[:, :, None].expand(-1, -1, frames, -1, -1)


STEM = "stem.0.convs.0.weight"
"""The kernel of S3D's first convolution."""


def _summed(value: Tensor, of_blocks: bool) -> Tensor:
    """A kernel's sum over time, and what is no kernel as it is.

    Args:
        value: [out, in, T, H, W], or of fewer axes.
        of_blocks: two frames of each block are among its channels, before all else.
    """
    if value.ndim < 5:
        return value
    if of_blocks:
        value = value.unflatten(1, (2, -1)).sum(1)
    return value.sum(2, keepdim=True)
