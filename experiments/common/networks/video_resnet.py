"""R(2+1)D (Tran et al., CVPR 2018, arXiv 1711.11248): a residual network of clips, with a convolution over space and
one over time in the place of each over both. Names of weights are those of torchvision's `VideoResNet`.

torchvision sizes what lies between the two once a block; here it is sized for each convolution, as in HumamAlwassel/XDC
(`model/r2plus1d_18.py`) and facebookresearch/VMZ, whose batch norms are Caffe2's, too. Of 18 layers that is 33,165,639
parameters instead of 31,300,125.

Shape suffixes: B clips, T frames, H and W pixels, C channels, D = the last of `widths`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

EPS = 1e-3
"""Of batch norms, Caffe2's."""


@dataclass
class VideoResNetConfig:
    """The network's size."""

    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    """Channels of each of the four layers; all but the first halve time, height and width."""
    blocks: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    """Residual blocks of each."""
    stem: int = 45
    """Channels between the two convolutions of the stem."""
    momentum: float = 0.9
    """Of batch norms, in torch's sense: running statistics are nine tenths the newest batch's, as the released code has
    it (official `model/r2plus1d_18.py`). Caffe2's 0.9 is torch's 0.1."""


def between(before: int, after: int) -> int:
    """Channels between the convolution over space and that over time, with which the two have about as many weights as
    one of 3 x 3 x 3."""
    return (27 * before * after) // (9 * before + 3 * after)


class Conv2Plus1D(nn.Sequential):
    """1 x 3 x 3, batch norm, ReLU, 3 x 1 x 1."""

    def __init__(self, before: int, after: int, stride: int):
        middle = between(before, after)
        super().__init__(
            nn.Conv3d(before, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            _norm(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, after, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class Block(nn.Module):
    """Two convolutions beside the identity, or beside a linear map where the shape changes."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Sequential(Conv2Plus1D(before, after, stride), _norm(after), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(Conv2Plus1D(after, after, 1), _norm(after))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv3d(before, after, 1, stride, bias=False), _norm(after))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        beside = x_BCTHW if self.downsample is None else self.downsample(x_BCTHW)
        return self.relu(self.conv2(self.conv1(x_BCTHW)) + beside)


class VideoResNet(nn.Module):
    """[B, 3, T, H, W] -> [B, D], the mean over time and space; any T, H and W do."""

    def __init__(self, config: VideoResNetConfig):
        super().__init__()
        first, *_, self.width = config.widths
        self.stem = nn.Sequential(
            nn.Conv3d(3, config.stem, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            _norm(config.stem),
            nn.ReLU(inplace=True),
            nn.Conv3d(config.stem, first, (3, 1, 1), 1, (1, 0, 0), bias=False),
            _norm(first),
            nn.ReLU(inplace=True),
        )
        sizes = zip([first, *config.widths], config.widths, (1, 2, 2, 2), config.blocks, strict=False)
        self.layer1, self.layer2, self.layer3, self.layer4 = (_layer(*size) for size in sizes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # torchvision's
            elif isinstance(module, nn.BatchNorm3d):
                module.momentum = config.momentum

    def forward(self, video_B3THW: Tensor) -> Tensor:
        x_BCTHW = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(video_B3THW)))))
        return x_BCTHW.mean(dim=(2, 3, 4))


def _norm(channels: int) -> nn.BatchNorm3d:
    return nn.BatchNorm3d(channels, eps=EPS)


def _layer(before: int, after: int, stride: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Block(before, after, stride), *(Block(after, after, 1) for _ in range(blocks - 1)))
