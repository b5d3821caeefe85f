"""T5's encoder (Raffel et al. 2020) as VATT has it: no biases, and places only as a bias of attention that all layers
share (google-research `vatt/modeling/backbones/text/t5.py`).

Shape suffixes: B texts, L tokens, D channels, H heads.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from experiments.common.networks.layers import init_mae, transformer

RMSNorm: Any = partial(nn.RMSNorm, eps=1e-6)
HIDDEN = -1e9
"""Added to the scores of what is not looked at."""


class Scaled(nn.Module):
    """x -> factor * x."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def buckets_of(length: int, buckets: int, furthest: int, device: torch.device | None = None) -> Tensor:
    """[length, length] int64: the bucket of how far the column's token is behind the row's. Half of the buckets are for
    tokens before; of each half, half are for distances of a token each, the others grow with their logarithm."""
    place_L = torch.arange(length, device=device)
    behind_LL = place_L[None] - place_L[:, None]
    half, exact = buckets // 2, buckets // 4
    distance_LL = behind_LL.abs()
    growth = (half - exact) / math.log(furthest / exact)
    far_LL = exact + ((distance_LL.clamp(min=1) / exact).log() * growth).long()
    return half * (behind_LL > 0) + torch.where(distance_LL < exact, distance_LL, far_LL.clamp(max=half - 1))


class T5Encoder(nn.Module):
    """[B, L, D] tokens -> the same."""

    def __init__(
        self, dim: int, depth: int, heads: int, mlp_ratio: float, dropout: float, buckets: int = 32, furthest: int = 64
    ):
        super().__init__()
        self.buckets, self.furthest = buckets, furthest
        self.bias = nn.Embedding(buckets, heads)
        self.blocks = transformer(
            dim, depth, heads, mlp_ratio, qkv_bias=False, proj_bias=False, dropout=dropout, norm_layer=RMSNorm
        )
        self.norm, self.dropout = RMSNorm(dim), nn.Dropout(dropout)
        self.blocks.apply(init_mae)
        nn.init.uniform_(self.bias.weight, -0.05, 0.05)  # Keras' own
        for block in self.blocks:
            # T5 does not divide its scores by the root of a head's width, as torch's attention does.
            cast(Block, block).attn.q_norm = Scaled(math.sqrt(dim // heads))

    def forward(self, x_BLD: Tensor, there_BL: Tensor) -> Tensor:
        bucket_LL = buckets_of(x_BLD.shape[1], self.buckets, self.furthest, x_BLD.device)
        bias_HLL = self.bias(bucket_LL).movedim(2, 0)
        mask_BHLL = bias_HLL[None].masked_fill(~there_BL[:, None, None], HIDDEN)
        x_BLD = self.dropout(x_BLD)
        for block in self.blocks:
            x_BLD = block(x_BLD, attn_mask=mask_BHLL)
        return self.dropout(self.norm(x_BLD))
