"""One network a modality on the features of HowTo100M's methods: AVLnet's, which MCN took over (`model.py`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from experiments.common.networks.davenet import DAVEnet, DAVEnetConfig
from experiments.common.networks.gated import GatedUnit, WordMaxPool


def clip_vector(features_BTD: Tensor, length_B: Tensor, dims: Sequence[int]) -> Tensor:
    """[B, sum(dims)]: of each kind of features the maximum over the clip's moments, at length 1; zero without moments.

    Args:
        features_BTD: kinds side by side, zero after the clip's end.
        length_B: moments of each clip.
        dims: length of each kind's vectors.
    """
    beyond_BT1 = torch.arange(features_BTD.shape[1], device=length_B.device)[None, :, None] >= length_B[:, None, None]
    most_BD = features_BTD.masked_fill(beyond_BT1, -torch.inf).amax(1)
    most_BD = most_BD.masked_fill(length_B[:, None] == 0, 0)
    return torch.cat([F.normalize(kind_BD, dim=1) for kind_BD in most_BD.split(list(dims), dim=1)], dim=1)


class AudioBranch(nn.Module):
    """DAVEnet, the mean over time, a gated unit before the numbers become many, a linear layer.

    In training the mean is over all steps, padding included; in evaluation over those of the clip's own sound.
    """

    def __init__(self, config: DAVEnetConfig, dim: int):
        super().__init__()
        self.davenet = DAVEnet(config)
        self.gated: nn.Module = GatedUnit(self.davenet.dim, self.davenet.dim)
        self.projection = nn.Linear(self.davenet.dim, dim)

    def mean(self, audio_BFM: Tensor, length_B: Tensor) -> Tensor:
        """[B, DAVEnet's width] of log-mels whose first `length_B` frames are sound."""
        audio_BTD = self.davenet(audio_BFM)
        if self.training:
            return audio_BTD.mean(1)
        steps_B = (length_B // self.davenet.stride).clamp(1, audio_BTD.shape[1])
        own_BT = torch.arange(audio_BTD.shape[1], device=length_B.device) < steps_B[:, None]
        return (audio_BTD * own_BT[:, :, None]).sum(1) / steps_B[:, None]

    def forward(self, audio_BFM: Tensor, length_B: Tensor) -> Tensor:
        """[B, dim]."""
        return self.projection(self.gated(self.mean(audio_BFM, length_B)))


class TextBranch(nn.Module):
    """[B, L, D] word vectors -> [B, dim]: the maximum over words, and a gated unit."""

    def __init__(self, word_dim: int, dim: int):
        super().__init__()
        self.pool = WordMaxPool(word_dim, dim)
        self.gated = GatedUnit(dim, dim)

    def forward(self, words_BLD: Tensor) -> Tensor:
        return self.gated(self.pool(words_BLD))
