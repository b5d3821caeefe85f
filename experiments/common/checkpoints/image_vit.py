"""Image ViTs as timm names them, and how scenic starts other networks from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import timm
import torch
from scipy import ndimage
from torch import Tensor

from experiments.common.checkpoints.library import offered
from experiments.common.networks.convolutions import one_channel
from experiments.common.networks.scenic import Tokens

VIT_INPUT = ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")
"""Keys of what stands before the blocks."""


def is_image_vit(weights: Mapping[str, Any]) -> bool:
    """Whether the keys are those of timm's ViT (e.g. `vit_base_patch16_224.augreg_in21k`)."""
    return "patch_embed.proj.weight" in weights and "blocks.0.attn.qkv.weight" in weights


def central_frame(kernel: Tensor, frames: int) -> Tensor:
    """[D, 3, H, W] -> [D, 3, frames, H, W]: the middle frame's, zero for the others (`central_frame_initializer`)."""
    inflated = kernel.new_zeros(*kernel.shape[:2], frames, *kernel.shape[2:])
    inflated[:, :, frames // 2] = kernel
    return inflated


def zoom_positions(grid_LD: Tensor, rows: int, columns: int) -> Tensor:
    """Positions of a square grid -> [rows * columns, D], bilinear, corners on corners, by scipy as in their code."""
    side = math.isqrt(len(grid_LD))
    if (rows, columns) == (side, side):
        return grid_LD
    table = grid_LD.reshape(side, side, -1).float().numpy()
    zoomed = ndimage.zoom(table, (rows / side, columns / side, 1), order=1)
    return torch.from_numpy(zoomed).reshape(rows * columns, -1)


def places_of(weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """([1, D], [L, D]) the positions of its CLS and of its grid."""
    cls_1D, grid_LD = weights["pos_embed"][0].split([1, weights["pos_embed"].shape[1] - 1])
    return cls_1D, grid_LD


def as_tokens(weights: Mapping[str, Tensor], modality: str, tokens: Tokens) -> dict[str, Tensor]:
    """What stands before its blocks, as that of a modality, under the names of `Tokens`: its CLS, its kernel, of sound
    summed over the colours and of video as the middle frame's, and its positions fitted to their grid."""
    kernel, (cls_1D, grid_LD) = weights["patch_embed.proj.weight"], places_of(weights)
    if modality == "a":
        kernel = one_channel(kernel)
    elif modality == "v":
        kernel = central_frame(kernel, tokens.patch_embed.kernel_size[0])
    times, (rows, columns) = math.prod(tokens.grid[:-2]), tokens.grid[-2:]
    return {
        "patch_embed.weight": kernel,
        "patch_embed.bias": weights["patch_embed.proj.bias"],
        "positions": torch.cat([cls_1D, zoom_positions(grid_LD, rows, columns).repeat(times, 1)]),
        "cls_token": weights["cls_token"].flatten(),
    }


IMAGE_VIT = {
    192: "vit_tiny_patch16_224.augreg_in21k",
    384: "vit_small_patch16_224.augreg_in21k",
    768: "vit_base_patch16_224.augreg_in21k",
    1024: "vit_large_patch16_224.augreg_in21k",
}
"""timm's ViTs pretrained on ImageNet-21k, by their channels; the paper's is the Base."""


def imagenet(dim: int) -> Mapping[str, Tensor]:
    """timm's ViT of so many channels, which it downloads unless it is in its cache.

    Raises:
        ValueError: for a size that has none, or where it cannot be downloaded.
    """
    if dim not in IMAGE_VIT:
        raise ValueError(f"ImageNet has no ViT of model.dim={dim}, only of {', '.join(map(str, IMAGE_VIT))}")
    name = IMAGE_VIT[dim]
    return offered(lambda: timm.create_model(name, pretrained=True).state_dict(), "ImageNet's ViT", f"timm's {name}")
