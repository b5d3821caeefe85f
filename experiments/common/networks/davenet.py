"""DAVEnet: a residual convolutional network over time on log-mels (Harwath et al.; AVLnet `model_davenet.py`).

The trainable audio encoder of AVLnet, MCN and Everything at Once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

KERNEL = 9


@dataclass
class DAVEnetConfig:
    """Defaults are AVLnet's; Everything at Once goes two stages further (`model/utils/davenet.py`)."""

    mel_bins: int = 40
    first: int = 128
    """Channels of the first convolution, which collapses the mel axis."""
    widths: list[int] = field(default_factory=lambda: [128, 256, 512, 1024])
    """Channels of each stage; each halves the time axis."""
    blocks: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    """Residual blocks of each stage."""


class ResidualBlock(nn.Module):
    """Two convolutions of 9 steps; the first has the stride, and a 1 x 1 convolution takes the shortcut along."""

    def __init__(self, width_in: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv1d(width_in, width, KERNEL, stride, padding=KERNEL // 2, bias=False)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, bias=False)
        self.bn2 = nn.BatchNorm1d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv1d(width_in, width, 1, stride, bias=False), nn.BatchNorm1d(width))

    def forward(self, x_BCT: Tensor) -> Tensor:
        y_BCT = self.relu(self.bn1(self.conv1(x_BCT)))
        return self.relu(self.bn2(self.conv2(y_BCT)) + self.shortcut(x_BCT))


class DAVEnet(nn.Module):
    """[B, F, mel_bins] log-mels -> [B, T, dim], T = F / `stride` rounded up."""

    def __init__(self, config: DAVEnetConfig):
        super().__init__()
        self.conv1 = nn.Conv1d(config.mel_bins, config.first, 1, bias=False)
        self.bn1 = nn.BatchNorm1d(config.first)
        self.relu = nn.ReLU(inplace=True)
        widths = [config.first, *config.widths]
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width if i else before, width, 1 if i else 2) for i in range(blocks)))
            for before, width, blocks in zip(widths, config.widths, config.blocks, strict=False)
        )
        self.dim, self.stride = widths[-1], 2 ** len(config.widths)
        self.apply(_initialise)
        # The authors' first convolution is one of 2-D over all mel bands, which counts them in its fan-out.
        nn.init.normal_(self.conv1.weight, std=(2 / (config.mel_bins * config.first)) ** 0.5)

    def forward(self, audio_BFM: Tensor) -> Tensor:
        x_BCT = self.relu(self.bn1(self.conv1(audio_BFM.transpose(1, 2))))
        for stage in self.stages:
            x_BCT = stage(x_BCT)
        return x_BCT.transpose(1, 2)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
