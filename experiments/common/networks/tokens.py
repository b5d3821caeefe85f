"""Tokens as VATT makes them: cubes, stretches and words, each with its place, after one that stands for all of them.

Shape suffixes: B clips, L tokens, K of them that are kept, P numbers of a patch, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from experiments.common.networks.layers import LayerNorm
from experiments.common.networks.masking import gather_tokens
from experiments.common.networks.patches import patchify


class Places(nn.Module):
    """[L, D]: a vector for each place along each axis; their sum is normalised before tokens get it (google-research
    `vatt/modeling/common/transformers.py`)."""

    def __init__(self, grid: Sequence[int], dim: int):
        super().__init__()
        self.grid, deviation = tuple(grid), dim**-0.5
        self.tables = nn.ParameterList(torch.empty(length, dim) for length in grid)
        self.norm = LayerNorm(dim)
        for table in self.tables:
            nn.init.trunc_normal_(table, std=deviation, a=-2 * deviation, b=2 * deviation)

    @property
    def length(self) -> int:
        """L."""
        return math.prod(self.grid)

    def forward(self) -> Tensor:
        first, *others = self.tables
        places: Tensor = first
        for table in others:
            places = places[..., None, :] + table
        return self.norm(places.flatten(0, -2))


class First(nn.Module):
    """[B, L, D] -> [B, 1 + L, D]: a learned token before them."""

    def __init__(self, dim: int):
        super().__init__()
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(dim), std=dim**-0.5))

    def forward(self, tokens_BLD: Tensor) -> Tensor:
        return torch.cat([self.token.expand(len(tokens_BLD), 1, -1), tokens_BLD], 1)


class Patches(nn.Module):
    """[B, C, *size] -> [B, 1 + L, D]: the first token, and the patches with their places, or the K that are kept.

    Args:
        channels: C.
        patch: sides of a patch.
        grid: patches along each axis.
        dim: D.
        dropout: of tokens with their places.
        pre: what comes between the projection of a patch and its place.
    """

    def __init__(
        self, channels: int, patch: Sequence[int], grid: Sequence[int], dim: int, dropout: float, pre: nn.Module
    ):
        super().__init__()
        self.patch, volume = tuple(patch), math.prod(patch)
        self.project, self.pre = nn.Linear(channels * volume, dim), pre
        self.places, self.dropout, self.first = Places(grid, dim), nn.Dropout(dropout), First(dim)
        bound = (6 / (volume * (channels + dim))) ** 0.5  # Glorot's of a convolution, as Keras draws it
        nn.init.uniform_(self.project.weight, -bound, bound)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        patches_BLP, places_BLD = patchify(x, self.patch), self.places().expand(len(x), -1, -1)
        if keep_BK is not None:  # before they are projected, which the authors do with all
            patches_BLP, places_BLD = gather_tokens(patches_BLP, keep_BK), gather_tokens(places_BLD, keep_BK)
        return self.first(self.dropout(self.pre(self.project(patches_BLP)) + places_BLD))
