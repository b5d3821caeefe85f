"""Weights from elsewhere: an image ViT as timm names it, and MBT as the authors' Flax code names it.

The class in google-research/scenic `projects/mbt/model.py` and ours compute the same, only names and layouts differ:

    embedding, embedding_spectrogram                              ->  tokens.{v, a}.patch_embed
    cls, clsspectrogram (cls, if there is only a spectrogram)     ->  tokens.{v, a}.cls_token
    Transformer/posembed_input[_spectrogram]/pos_embedding        ->  tokens.{v, a}.positions
    Transformer/encoderblock_{i}[_spectrogram]/*                  ->  blocks.{v, a, shared}.{i}.*
    Transformer/encoder_norm, output_projection, bottleneck       ->  norm, head, bottleneck

Layouts are those of `common/checkpoints/flax.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from experiments.common.checkpoints import flax
from experiments.common.checkpoints.heads import HEAD, without_other_head
from experiments.common.checkpoints.image_vit import VIT_INPUT, as_tokens, is_image_vit, places_of, zoom_positions
from experiments.common.checkpoints.table import Entry, Table
from experiments.common.networks.scenic import Tokens
from experiments.common.weights import load_strict, require_fit
from experiments.mbt.model import MBT


def is_scenic(weights: Mapping[str, Any]) -> bool:
    """Whether the keys are those of the authors' MBT."""
    return "Transformer/encoder_norm/scale" in weights


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
    return flax.vit(weights, _names(model, spectrogram_only="embedding/kernel" not in weights))


def _names(model: MBT, spectrogram_only: bool) -> list[Entry]:
    names: list[Entry] = [
        (r"bottleneck", None if model.bottleneck is None else "bottleneck"),  # theirs is there if nothing is fused, too
        (r"clsspectrogram", "tokens.a.cls_token"),
        (r"cls", f"tokens.{'a' if spectrogram_only else 'v'}.cls_token"),
        flax.module("Transformer/encoder_norm", "norm"),
        flax.module("output_projection", "head"),
    ]
    for suffix, stream in (("", "v"), ("_spectrogram", "a")):
        owner = "shared" if model.config.share_encoder else stream
        names += [
            flax.module(f"embedding{suffix}", f"tokens.{stream}.patch_embed"),
            (f"Transformer/posembed_input{suffix}/pos_embedding", f"tokens.{stream}.positions"),
        ]
        names += flax.block(rf"Transformer/encoderblock_(\d+){suffix}", rf"blocks.{owner}.\1")
    return names


# --- image ViTs -----------------------------------------------------------------------------------------------


def from_image_vit(weights: Mapping[str, Tensor], model: MBT) -> dict[str, Tensor]:
    """timm's ViT -> a state dict for `model` without `head`, as scenic `projects/mbt/model_utils.py` starts MBT.

    All streams get the same blocks and patch kernel, the positions are fitted to their grids. The bottleneck becomes
    the positions zoomed to a grid of `bottlenecks`, with that of CLS in front if there is an extra one.

    Raises:
        ValueError: naming the keys that an image ViT does not have or lacks, or if `bottlenecks` is no such grid.
    """
    table = Table(
        (
            (r"blocks\.(.+)", tuple(rf"blocks.{owner}.\1" for owner in model.blocks)),
            (r"norm\.(.+)", r"norm.\1"),
            (r"(head|pre_logits)\..+", None),
            (r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)", None),  # see below
        )
    )
    ours, strange = table.translated(weights)
    require_fit([f"{key}: missing" for key in VIT_INPUT if key not in weights] + strange)

    for m, tokens in model.tokens.items():
        assert isinstance(tokens, Tokens)
        ours |= {f"tokens.{m}.{key}": value for key, value in as_tokens(weights, m, tokens).items()}
    if model.modality == "av":
        # Their code looks for `cls_spectrogram` where the class has `clsspectrogram`, so this one stays at its 0.
        ours["tokens.a.cls_token"] = torch.zeros_like(ours["tokens.a.cls_token"])
    if model.bottleneck is not None:
        cls_1D, grid_LD = places_of(weights)
        rows, columns = bottleneck_grid(model.config.bottlenecks)
        zoomed_KD = zoom_positions(grid_LD, rows, columns)
        ours["bottleneck"] = torch.cat([cls_1D, zoomed_KD]) if model.config.extra_bottleneck else zoomed_KD
    return ours


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


def load(model: MBT, weights: Mapping[str, Any]) -> None:
    """Fills the network with its own weights, the authors' or an image ViT's.

    The classifier is new after an image ViT, and where the weights' is for another number of classes.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    new: tuple[str, ...]
    if is_image_vit(weights):
        weights, new = from_image_vit(weights, model), HEAD
    else:
        ours = from_scenic(weights, model) if is_scenic(weights) else weights
        weights, new = without_other_head(ours, model.state_dict())
    load_strict(model, weights, new=new)
