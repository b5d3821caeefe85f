"""ViTs as scenic's Flax code builds them: tokens of one modality, pre-LN blocks, and how they are initialised.

Shape suffixes: B clips, L patches of a clip, S = 1 + L tokens with CLS first, D channels.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from timm.layers import Attention, DropPath, Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from datamodules.types import AudioInputs, VideoInputs
from experiments.common.networks.layers import LayerNorm
from experiments.common.networks.patches import audio_grid, video_grid


class Tokens(nn.Module):
    """[B, C, *size] -> [B, S, D]: CLS and the patches of one modality, each with a learned position."""

    def __init__(self, patch_embed: nn.Conv2d | nn.Conv3d, grid: tuple[int, ...]):
        super().__init__()
        self.grid = grid
        self.patch_embed = patch_embed
        self.cls_token = nn.Parameter(torch.zeros(patch_embed.out_channels))
        self.positions = nn.Parameter(torch.empty(1 + math.prod(grid), patch_embed.out_channels))
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        patches_BLD = self.patch_embed(x).flatten(2).transpose(1, 2)
        cls_B1D = self.cls_token.expand(len(x), 1, -1)
        return torch.cat([cls_B1D, patches_BLD], dim=1) + self.positions


def audio_tokens(audio: AudioInputs, dim: int, patch: int) -> Tokens:
    """Of [B, 1, frames, mels]. The authors repeat the log-mel in three channels; one is the same function."""
    return Tokens(nn.Conv2d(1, dim, patch, patch), audio_grid(audio, patch))


def video_tokens(video: VideoInputs, dim: int, patch: int, tubelet: int) -> Tokens:
    """Of [B, 3, T, H, W]."""
    sides = (tubelet, patch, patch)
    return Tokens(nn.Conv3d(3, dim, sides, sides), video_grid(video, patch, tubelet))


def encoder(dim: int, depth: int, heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> nn.ModuleList:
    """Pre-LN ViT blocks, as in Flax: tanh GELU, and stochastic depth that drops and rescales not."""
    gelu: Any = partial(nn.GELU, approximate="tanh")  # timm says that it takes a class, and calls it
    make = partial(Block, qkv_bias=True, act_layer=gelu, norm_layer=LayerNorm)
    rates = torch.linspace(0, drop_path, depth, device="cpu").tolist()
    blocks = nn.ModuleList(make(dim, heads, mlp_ratio, drop_path=rate) for rate in rates)
    for module in blocks.modules():
        if isinstance(module, DropPath):
            module.scale_by_keep = False  # survivors are not divided by 1 - p (scenic mbt/model.py, EncoderBlock)
    return blocks


def init_scenic(module: nn.Module) -> None:
    """For `module.apply`: Flax's and scenic's initialisation, for a start without an image ViT.

    Xavier-uniform weights (each of q, k and v for itself), LeCun-normal patch kernels, biases 0 or, in MLPs, nearly.
    """
    if isinstance(module, Block):
        attn, mlp = module.attn, module.mlp
        assert isinstance(attn, Attention) and isinstance(mlp, Mlp)
        for weight in (*attn.qkv.weight.detach().chunk(3), attn.proj.weight):
            nn.init.xavier_uniform_(weight)
        for linear in (mlp.fc1, mlp.fc2):
            nn.init.xavier_uniform_(linear.weight)
            assert linear.bias is not None
            nn.init.normal_(linear.bias, std=1e-6)
        for linear in (attn.qkv, attn.proj):
            nn.init.zeros_(linear.bias)
    elif isinstance(module, (nn.Conv2d, nn.Conv3d)):
        std = module.weight[0].numel() ** -0.5 / 0.87962566103423978  # of a normal distribution cut at 2 std
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        assert module.bias is not None
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
