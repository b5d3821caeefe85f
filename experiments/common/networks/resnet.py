"""ResNet for log-mels: torchvision's with one input channel (He et al. 2015), as CrissCross and XDC hear with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


@dataclass
class ResNetConfig:
    """Defaults are ResNet-18."""

    widths: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    """Channels of each stage; all but the first halve both sides of the log-mel."""
    blocks: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    """Residual blocks of each stage."""


class ResNet(nn.Module):
    """[B, 1, X, Y] -> [B, width, X / 32, Y / 32], the last stage's map, each side rounded up.

    Whether mel bins or frames come first is the method's choice: the authors' kernels know one order only.
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        first = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(1, first, 7, 2, 3, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        before, stages = first, []
        for number, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            stride = 1 if number == 0 else 2
            stages.append(
                nn.Sequential(_block(before, width, stride), *(_block(width, width, 1) for _ in range(blocks - 1)))
            )
            before = width
        self.stages = nn.Sequential(*stages)
        self.width = before
        for module in self.modules():  # as torchvision begins
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, log_mel_B1XY: Tensor) -> Tensor:
        return self.stages(self.stem(log_mel_B1XY))


def _block(before: int, after: int, stride: int) -> BasicBlock:
    shortcut = None
    if before != after or stride != 1:
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
    return BasicBlock(before, after, stride, shortcut)
