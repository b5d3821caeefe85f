"""Gated embedding units (Miech et al. 2018), the projections of AVLnet, MCN and Everything at Once."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ContextGating(nn.Module):
    """x * sigmoid(W x + b): each number is let through as far as all of them say."""

    def __init__(self, dim: int):
        super().__init__()
        self.fc = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x))


class GatedUnit(nn.Module):
    """A linear layer and context gating; the result is not normalised (AVLnet `model.py`)."""

    def __init__(self, dim_in: int, dim: int):
        super().__init__()
        self.fc = nn.Linear(dim_in, dim)
        self.gate = ContextGating(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.fc(x))


class WordMaxPool(nn.Module):
    """[B, L, D] word vectors -> [B, dim]: linear layer, ReLU, the maximum over words (AVLnet `model.py`).

    Rows of padding, which are zero, take part in the maximum: each gives ReLU(bias).
    """

    def __init__(self, dim_in: int, dim: int):
        super().__init__()
        self.fc = nn.Linear(dim_in, dim)

    def forward(self, words_BLD: Tensor) -> Tensor:
        return torch.relu(self.fc(words_BLD)).amax(1)
