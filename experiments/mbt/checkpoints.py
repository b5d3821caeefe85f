"""Weights from elsewhere: an image ViT as timm names it, and MBT as the authors' Flax code names it.

The class in google-research/scenic `projects/mbt/model.py` and ours compute the same, only names and layouts differ:

    embedding, embedding_spectrogram                              ->  tokens.{v, a}.patch_embed
    cls, clsspectrogram (cls, if there is only a spectrogram)     ->  tokens.{v, a}.cls_token
    Transformer/posembed_input[_spectrogram]/pos_embedding        ->  tokens.{v, a}.positions
    Transformer/encoderblock_{i}[_spectrogram]/*                  ->  blocks.{v, a, shared}.{i}.*
    Transformer/encoder_norm, output_projection, bottleneck       ->  norm, head, bottleneck

Linear kernels there are [in, out], those of heads [D, heads, D / heads], convolutions [*size, in, out].
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import timm
import torch
from scipy import ndimage
from torch import Tensor

from experiments.common.weights import load_strict
from experiments.mbt.model import MBT

_LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_PARTS = {
    "LayerNorm_0": "norm1",
    "LayerNorm_1": "norm2",
    "MultiHeadDotProductAttention_0/query": "attn.q",
    "MultiHeadDotProductAttention_0/key": "attn.k",
    "MultiHeadDotProductAttention_0/value": "attn.v",
    "MultiHeadDotProductAttention_0/out": "attn.proj",
    "MlpBlock_0/Dense_0": "mlp.fc1",
    "MlpBlock_0/Dense_1": "mlp.fc2",
}
_BLOCK = re.compile(r"Transformer/encoderblock_(\d+)(_spectrogram)?/(.+)/(kernel|scale|bias)")
_EMBEDDING = re.compile(r"embedding(_spectrogram)?/(kernel|bias)")
_POSITIONS = re.compile(r"Transformer/posembed_input(_spectrogram)?/pos_embedding")
_SHARED = re.compile(r"(Transformer/encoder_norm|output_projection)/(kernel|scale|bias)")


def is_scenic(weights: Mapping[str, Any]) -> bool:
    """Whether the keys are those of the authors' MBT."""
    return "Transformer/encoder_norm/scale" in weights


def is_image_vit(weights: Mapping[str, Any]) -> bool:
    """Whether the keys are those of timm's ViT (e.g. `vit_base_patch16_224.augreg_in21k`)."""
    return "patch_embed.proj.weight" in weights and "blocks.0.attn.qkv.weight" in weights


# --- the authors' checkpoints ---------------------------------------------------------------------------------


def from_scenic(weights: Mapping[str, Any], model: MBT) -> dict[str, Tensor]:
    """The authors' parameters -> a state dict for `model`, or for a part of it (e.g. only its audio).

    `weights` has arrays or tensors under names joined by `/`, such as
    `flax.traverse_util.flatten_dict(flax.serialization.msgpack_restore(bytes)["optimizer"]["target"], sep="/")` makes.
    For a file that `init=` takes, save them as tensors:
    `torch.save({k: torch.tensor(v) for k, v in weights.items()}, f)`.

    Raises:
        ValueError: naming every key that MBT does not have, or a query, key or value without the other two.
    """
    spectrogram_only = "embedding/kernel" not in weights
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in weights.items():
        name = _our_name(key, model.config.share_encoder, spectrogram_only)
        if name is None:
            unknown.append(f"{key}: unknown")
        elif key != "bottleneck" or model.bottleneck is not None:  # theirs has one even where nothing is fused
            ours[name] = _our_layout(name, torch.as_tensor(value))
    unknown += _fuse_qkv(ours)
    if unknown:
        raise ValueError("these are not MBT's weights:\n  " + "\n  ".join(unknown))
    return ours


def _our_name(key: str, share_encoder: bool, spectrogram_only: bool) -> str | None:
    if key == "bottleneck":
        return key
    if key in ("cls", "clsspectrogram"):
        return f"tokens.{'a' if spectrogram_only or key == 'clsspectrogram' else 'v'}.cls_token"
    if match := _EMBEDDING.fullmatch(key):
        return f"tokens.{_stream(match[1])}.patch_embed.{_LEAVES[match[2]]}"
    if match := _POSITIONS.fullmatch(key):
        return f"tokens.{_stream(match[1])}.positions"
    if match := _SHARED.fullmatch(key):
        return f"{'head' if match[1] == 'output_projection' else 'norm'}.{_LEAVES[match[2]]}"
    if (match := _BLOCK.fullmatch(key)) and match[3] in _PARTS:
        owner = "shared" if share_encoder else _stream(match[2])
        return f"blocks.{owner}.{match[1]}.{_PARTS[match[3]]}.{_LEAVES[match[4]]}"
    return None


def _stream(suffix: str | None) -> str:
    return "a" if suffix else "v"


def _our_layout(name: str, value: Tensor) -> Tensor:
    part, leaf = name.rsplit(".", 1) if "." in name else ("", name)
    if leaf in ("positions", "bottleneck"):
        return value[0]
    if leaf in ("cls_token", "bias"):
        return value.flatten()
    if part.endswith("patch_embed"):
        value = value.movedim((-1, -2), (0, 1))
        return one_channel(value) if part == "tokens.a.patch_embed" else value
    if part.endswith(("attn.q", "attn.k", "attn.v")):
        return value.flatten(1).T
    return value.flatten(0, -2).T if value.ndim > 1 else value


def _fuse_qkv(ours: dict[str, Tensor]) -> list[str]:
    """Puts `attn.{q, k, v}` together as `attn.qkv`; returns what is missing for that."""
    missing = []
    for fused in sorted({re.sub(r"\.attn\.[qkv]\.", ".attn.qkv.", key) for key in ours}):
        parts = [fused.replace("qkv", part) for part in "qkv"]
        if "attn.qkv" in fused and not (absent := [part for part in parts if part not in ours]):
            ours[fused] = torch.cat([ours.pop(part) for part in parts])
        elif "attn.qkv" in fused:
            missing += [f"{part}: missing" for part in absent]
    return missing


# --- image ViTs -----------------------------------------------------------------------------------------------

_VIT_INPUT = ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias")


def from_image_vit(weights: Mapping[str, Tensor], model: MBT) -> dict[str, Tensor]:
    """timm's ViT -> a state dict for `model` without `head`, as scenic `projects/mbt/model_utils.py` starts MBT.

    All streams get the same blocks and patch kernel, the positions are fitted to their grids. The bottleneck becomes
    the positions zoomed to a grid of `bottlenecks`, with that of CLS in front if there is an extra one.

    Raises:
        ValueError: naming the keys that an image ViT does not have or lacks, or if `bottlenecks` is no such grid.
    """
    ours: dict[str, Tensor] = {}
    wrong = [f"{key}: missing" for key in _VIT_INPUT if key not in weights]
    for key, value in weights.items():
        if key.startswith("blocks."):
            ours |= {key.replace("blocks", f"blocks.{owner}", 1): value for owner in model.blocks}
        elif key.startswith("norm."):
            ours[key] = value
        elif key not in _VIT_INPUT and not key.startswith(("head.", "pre_logits.")):
            wrong.append(f"{key}: unknown")
    if wrong:
        raise ValueError("these are not an image ViT's weights:\n  " + "\n  ".join(wrong))

    cls_1D, grid_LD = weights["pos_embed"][0].split([1, weights["pos_embed"].shape[1] - 1])
    for m, tokens in model.tokens.items():
        kernel = weights["patch_embed.proj.weight"]
        ours[f"tokens.{m}.patch_embed.weight"] = (
            one_channel(kernel) if m == "a" else central_frame(kernel, model.config.tubelet)
        )
        ours[f"tokens.{m}.patch_embed.bias"] = weights["patch_embed.proj.bias"]
        times, (rows, columns) = math.prod(tokens.grid[:-2]), tokens.grid[-2:]
        positions_LD = zoom_positions(grid_LD, rows, columns).repeat(times, 1)
        ours[f"tokens.{m}.positions"] = torch.cat([cls_1D, positions_LD])
        ours[f"tokens.{m}.cls_token"] = weights["cls_token"].flatten()
    if model.modality == "av":
        # Their code looks for `cls_spectrogram` where the class has `clsspectrogram`, so this one stays at its 0.
        ours["tokens.a.cls_token"] = torch.zeros_like(ours["tokens.a.cls_token"])
    if model.bottleneck is not None:
        rows, columns = bottleneck_grid(model.config.bottlenecks)
        zoomed_KD = zoom_positions(grid_LD, rows, columns)
        ours["bottleneck"] = torch.cat([cls_1D, zoomed_KD]) if model.config.extra_bottleneck else zoomed_KD
    return ours


def one_channel(kernel: Tensor) -> Tensor:
    """[D, 3, H, W] for a picture, to [D, 1, H, W] for a log-mel that would be repeated in its three channels."""
    return kernel.sum(dim=1, keepdim=True)


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


def bottleneck_grid(bottlenecks: int) -> tuple[int, int]:
    """4 -> (2, 2), 6 -> (2, 3): the most square grid, as their `interpolate_positional_embeddings` finds it.

    Raises:
        ValueError: where that finds none.
    """
    rows = math.isqrt(bottlenecks)
    if bottlenecks % rows:
        raise ValueError(
            f"an image ViT starts bottlenecks on a grid of floor(sqrt(B)) rows, which {bottlenecks} has not; "
            "set model.bottlenecks to e.g. 4, 6, 16 or 64"
        )
    return rows, bottlenecks // rows


IMAGE_VIT = {
    192: "vit_tiny_patch16_224.augreg_in21k",
    384: "vit_small_patch16_224.augreg_in21k",
    768: "vit_base_patch16_224.augreg_in21k",
    1024: "vit_large_patch16_224.augreg_in21k",
}
"""timm's ViTs pretrained on ImageNet-21k, by their channels; the paper's is the Base."""


def imagenet(dim: int) -> dict[str, Tensor]:
    """timm's ViT of so many channels, which it downloads unless it is in its cache.

    Raises:
        ValueError: for a size that has none, or where it cannot be downloaded.
    """
    if dim not in IMAGE_VIT:
        raise ValueError(f"ImageNet has no ViT of model.dim={dim}, only of {', '.join(map(str, IMAGE_VIT))}")
    try:
        return timm.create_model(IMAGE_VIT[dim], pretrained=True).state_dict()
    except OSError as error:
        raise ValueError(
            f"ImageNet's ViT could not be downloaded ({error}). Fetch timm's {IMAGE_VIT[dim]} elsewhere and name the "
            f"file with init=FILE"
        ) from error


def load(model: MBT, weights: Mapping[str, Any]) -> None:
    """Fills the network with its own weights, the authors' or an image ViT's.

    The classifier is new after an image ViT, and where the weights' is for another number of classes.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    new: tuple[str, ...] = ()
    if is_image_vit(weights):
        weights, new = from_image_vit(weights, model), ("head",)
    elif is_scenic(weights):
        weights = from_scenic(weights, model)
    if "head.weight" in weights and len(weights["head.weight"]) != model.head.out_features:
        weights, new = {key: value for key, value in weights.items() if not key.startswith("head.")}, ("head",)
    load_strict(model, weights, new=new)
