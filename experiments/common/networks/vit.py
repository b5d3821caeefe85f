"""A ViT over pictures in time or over log-mels, with learned positions, that can be shown only some of the patches.

Shape suffixes: B clips, L patches, K visible patches, S = 1 + patches with CLS first, D channels, H heads.
"""

from __future__ import annotations

from typing import cast

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from experiments.common.networks.layers import init_mae
from experiments.common.networks.masking import gather_tokens
from experiments.common.networks.patches import patchify
from experiments.common.networks.positions import resized


class PatchViT(nn.Module):
    """[B, C, *size] -> [B, S, D]: patches are projected linearly and go through the blocks and a final norm.

    Args:
        channels: C.
        patch: sides of a patch.
        grid: patches along each axis of the inputs that the positions are learned for; others have them resized.
        blocks: of dimension `dim`; encoders of two modalities may share them.
        dim: D.
        norm: the final one.
    """

    def __init__(
        self,
        channels: int,
        patch: tuple[int, ...],
        grid: tuple[int, ...],
        blocks: nn.Sequential,
        dim: int,
        norm: nn.Module,
    ):
        super().__init__()
        self.patch, self.grid = patch, grid
        side, length = torch.Size(patch).numel(), torch.Size(grid).numel()
        self.patch_embed = nn.Linear(side * channels, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, 1 + length, dim))
        self.blocks, self.norm = blocks, norm
        self.apply(init_mae)
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    @property
    def length(self) -> int:
        """L, of inputs of the size that the positions are learned for."""
        return self.positions.shape[1] - 1

    def embed(self, x: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        """[B, C, *size] -> [B, S, D]: CLS and the patches, or those at `keep_BK`, each by itself and where it is."""
        grid = tuple(size // side for size, side in zip(x.shape[2:], self.patch, strict=True))
        cls_11D, places_1LD = resized(self.positions, self.grid, grid).split([1, torch.Size(grid).numel()], dim=1)
        patches_BLP, places_BLD = patchify(x, self.patch), places_1LD.expand(len(x), -1, -1)
        if keep_BK is not None:
            patches_BLP, places_BLD = gather_tokens(patches_BLP, keep_BK), gather_tokens(places_BLD, keep_BK)
        cls_B1D = (self.cls_token + cls_11D).expand(len(x), -1, -1)
        return torch.cat([cls_B1D, self.patch_embed(patches_BLP) + places_BLD], dim=1)

    def forward(self, x: Tensor, keep_BK: Tensor | None = None) -> Tensor:
        return self.norm(self.blocks(self.embed(x, keep_BK)))

    def with_attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same of all patches, and [B, H, L] how much the last block's CLS attends to each of them."""
        *before, last = self.blocks
        tokens_BSD = self.embed(x)
        for block in before:
            tokens_BSD = block(tokens_BSD)
        return self.norm(last(tokens_BSD)), cls_attention(cast(Block, last), tokens_BSD)[:, :, 1:]


def cls_attention(block: Block, tokens_BSD: Tensor) -> Tensor:
    """[B, H, S] how much a block's first token attends to all tokens, of what the block is given."""
    attention, norm = cast(Attention, block.attn), cast(nn.LayerNorm, block.norm1)
    qkv_BS3HC = attention.qkv(norm(tokens_BSD)).unflatten(2, (3, attention.num_heads, -1))
    query_BHC, key_BSHC = qkv_BS3HC[:, 0, 0], qkv_BS3HC[:, :, 1]
    return torch.einsum("bhc,bshc->bhs", query_BHC * attention.scale, key_BSHC).softmax(dim=-1)


def pooled(tokens_BSD: Tensor) -> Tensor:
    """[B, S, D] -> [B, D]: the mean of the tokens without CLS."""
    return tokens_BSD[:, 1:].mean(dim=1)
