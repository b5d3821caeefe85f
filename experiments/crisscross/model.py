"""CrissCross's network: an encoder, a projector and a predictor of each modality, none of them shared."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from experiments.common.networks.r2plus1d import R2Plus1D, R2Plus1DConfig
from experiments.common.networks.resnet import ResNet, ResNetConfig


@dataclass
class CrissCrossConfig:
    """Defaults are the official `configs/pretext/kinetics400/crisscross.yaml`."""

    video: R2Plus1DConfig = field(default_factory=R2Plus1DConfig)
    audio: ResNetConfig = field(default_factory=ResNetConfig)
    projection: int = 2048
    """Width of the projectors and of what they give."""
    bottleneck: int = 512
    """Width within the predictors."""


class Encoders(nn.Module):
    """The encoders of these modalities: `v`, `a`."""

    def __init__(self, config: CrissCrossConfig, modalities: str):
        super().__init__()
        made = {m: R2Plus1D(config.video) if m == "v" else ResNet(config.audio) for m in modalities}
        self.encoders = nn.ModuleDict(made)

    def mapped(self, modality: str, x: Tensor) -> Tensor:
        """[B, 3, T, H, W] pictures -> their last map, [B, D, T, H, W]; [B, 1, frames, mels] log-mels -> theirs, [B, D,
        mels, frames], as the authors' kernels know the mel axis as the first."""
        return self.encoders[modality](x.transpose(2, 3) if modality == "a" else x)


def conv5_width(config: ResNetConfig, frames: int, mel_bins: int) -> int:
    """How many numbers the features have of log-mels of this size."""
    rows, columns = -(-mel_bins // 32), -(-frames // 32)
    return config.widths[-1] * rows * ((columns - 3) // 2 + 1)


def _layer(before: int, after: int) -> list[nn.Module]:
    return [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]


class CrissCross(Encoders):
    """z = projector(encoder(x)) and p = predictor(z), for each modality by its own."""

    def __init__(self, config: CrissCrossConfig):
        super().__init__(config, "va")
        self.projectors, self.predictors = nn.ModuleDict(), nn.ModuleDict()
        wide, narrow = config.projection, config.bottleneck
        for modality, first in {"v": config.video.widths[-1], "a": config.audio.widths[-1]}.items():
            # Three layers, as the configuration has it; the official class leaves the middle one out by default.
            layers = [*_layer(first, wide), *_layer(wide, wide), *_layer(wide, wide)]
            self.projectors[modality] = nn.Sequential(*layers[:-1])
            self.predictors[modality] = nn.Sequential(*_layer(wide, narrow), nn.Linear(narrow, wide))

    def forward(self, modality: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """(z, p), each [B, projection], of one view; its batch norms see no other."""
        z_BP = self.projectors[modality](self.mapped(modality, x).flatten(2).mean(2))
        return z_BP, self.predictors[modality](z_BP)
