"""A head whose outputs are scores of prototypes (DINO `vision_transformer.py` `DINOHead`, iBOT)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class PrototypeConfig:
    """Of the head; defaults are XKD's (`models/modules/__init__.py`, `2048-gelu-3-256-8192-norm3`)."""

    hidden: int = 2048
    """Channels of the two hidden layers."""
    bottleneck: int = 256
    """Channels of what is compared with prototypes."""
    prototypes: int = 8192


class PrototypeHead(nn.Module):
    """[B, dim] -> [B, K]: an MLP, cosines with K prototypes, and a LayerNorm without scale and shift over these.

    One LayerNorm serves both hidden layers, as in XKD's release. The norm over the scores gives them a variance of 1,
    so that a temperature means the same throughout training.
    """

    def __init__(self, dim: int, config: PrototypeConfig):
        super().__init__()
        self.first = nn.Linear(dim, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.third = nn.Linear(config.hidden, config.bottleneck)
        self.norm = nn.LayerNorm(config.hidden)
        for layer in (self.first, self.second, self.third):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.prototypes = nn.Linear(config.bottleneck, config.prototypes, bias=False)
        """Of their weights the directions count alone: a weight norm whose gain stays 1."""

    def forward(self, x_BD: Tensor) -> Tensor:
        x_BD = F.gelu(self.norm(self.first(x_BD)))
        x_BD = F.gelu(self.norm(self.second(x_BD)))
        direction_BD = F.normalize(self.third(x_BD), dim=-1)
        score_BK = F.linear(direction_BD, F.normalize(self.prototypes.weight, dim=1))
        return F.layer_norm(score_BK, score_BK.shape[-1:])
