"""Transformer stacks shared by methods: timm's blocks, initialised as in MAE."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn

LayerNorm: Any = partial(nn.LayerNorm, eps=1e-6)  # timm says that it takes a class, and calls it
"""LayerNorm as in ViT and MAE."""


def transformer(
    dim: int,
    depth: int,
    heads: int,
    mlp_ratio: float,
    drop_path: float = 0.0,
    *,
    qkv_bias: bool = True,
    proj_bias: bool = True,
    dropout: float = 0.0,
    norm_layer: Any = LayerNorm,
) -> nn.Sequential:
    """Pre-LN ViT blocks with GELU; DropPath rises linearly from 0 to `drop_path`. `dropout` is of what attention and
    MLP give, of attention's weights and within the MLP."""
    rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
    others: dict[str, Any] = {"qkv_bias": qkv_bias, "proj_bias": proj_bias, "proj_drop": dropout, "attn_drop": dropout}
    return nn.Sequential(
        *(Block(dim, heads, mlp_ratio, norm_layer=norm_layer, drop_path=rate, **others) for rate in rates)
    )


def start_at_prior(head: nn.Linear, prior: float) -> None:
    """Sets the bias of a classifier so that each class has the probability `prior` (of a sigmoid) before training.

    Published codes start at a bias of 0, which is 0.5. Where labels are rare, a smaller one spares binary cross-entropy
    its first steps, in which it would only learn that they are.
    """
    nn.init.constant_(head.bias, math.log(prior / (1 - prior)))


def init_mae(module: nn.Module) -> None:
    """For `module.apply`: Xavier-uniform weights and no biases; convolutions of patches as if they were linear.

    MAE's initialisation (AudioMAE `models_mae.py`, `initialize_weights`).
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.Conv2d, nn.Conv3d)):
        nn.init.xavier_uniform_(module.weight.detach().flatten(1))
