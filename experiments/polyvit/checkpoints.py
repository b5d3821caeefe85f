"""Weights from elsewhere: an image ViT as timm names it, and PolyViT as scenic's Flax code names it.

    tokenizer/tokenizer{2d, 3d, _spec}/embedding                        ->  tokens.{i, v, a}.patch_embed
    tokenizer/tokenizer*/cls                                            ->  tokens.*.cls_token
    tokenizer/tokenizer*/posembed_input/pos_embedding                   ->  tokens.*.positions
    tokenizer/tokenizer*/encoderblock_{i}/*                             ->  own.*.{i}.*
    vit_encoder/encoderblock_{i}/*, i from `own_layers` on              ->  blocks.{i - own_layers}.*
    vit_encoder/encoder_norm                                            ->  norm
    classification_head_{dataset}/output_projection                     ->  heads.{dataset}

None of these files was released. Layouts are those of `common/checkpoints/flax.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from experiments.common.checkpoints import flax
from experiments.common.checkpoints.image_vit import VIT_INPUT, central_frame, is_image_vit, zoom_positions
from experiments.common.checkpoints.table import Entry, Table
from experiments.common.networks.convolutions import one_channel
from experiments.common.networks.scenic import Tokens
from experiments.common.weights import load_strict, require_fit
from experiments.polyvit.model import PolyViT

TOKENIZERS = {"i": "tokenizer2d", "v": "tokenizer3d", "a": "tokenizer_spec"}


def from_scenic(weights: Mapping[str, Any], model: PolyViT) -> dict[str, Tensor]:
    """The authors' parameters, under names joined by `/`, -> a state dict.

    Raises:
        ValueError: naming every key that PolyViT does not have.
    """
    own = len(next(iter(model.own.values())))  # type: ignore[arg-type]  # of every modality as many
    names: list[Entry] = [
        flax.module("vit_encoder/encoder_norm", "norm"),
        flax.module(r"classification_head_(\w+)/output_projection", r"heads.\1"),
    ]
    for layer in range(len(model.blocks)):
        names += _block(f"vit_encoder/encoderblock_{own + layer}", f"blocks.{layer}")
    for modality, theirs in TOKENIZERS.items():
        place = f"tokenizer/{theirs}"
        names += [
            flax.module(f"{place}/embedding", f"tokens.{modality}.patch_embed"),
            (f"{place}/cls", f"tokens.{modality}.cls_token"),
            (f"{place}/posembed_input/pos_embedding", f"tokens.{modality}.positions"),
        ]
        for layer in range(own):
            names += _block(f"{place}/encoderblock_{layer}", f"own.{modality}.{layer}")
    shapes = (
        (r".*positions", lambda table: table[0]),
        (r".*(cls_token|bias)", torch.flatten),
        (r"tokens\.a\.patch_embed\.weight", lambda kernel: one_channel(flax.convolution(kernel))),
        (r"tokens\..\.patch_embed\.weight", flax.convolution),
        (r".*attn\.[qkv]\.weight", flax.of_heads),
        (r".*", flax.linear),
    )
    tensors = {key: torch.as_tensor(value) for key, value in weights.items()}
    ours, strange = Table(tuple(names), shapes).translated(tensors)
    ours, missing = flax.fused_qkv(ours)
    require_fit(strange + missing)
    return ours


def _block(theirs: str, ours: str) -> list[Entry]:
    return [flax.module(f"{theirs}/{module}", f"{ours}.{name}") for module, name in flax.BLOCK.items()]


def from_image_vit(weights: Mapping[str, Tensor], model: PolyViT) -> dict[str, Tensor]:
    """timm's ViT -> a state dict without classifiers, as scenic `projects/polyvit/model_utils.py` starts PolyViT: all
    tokenizers get its CLS and its kernel, and its positions fitted to their grids.

    Raises:
        ValueError: naming the keys that an image ViT does not have or lacks.
    """
    own = len(next(iter(model.own.values())))  # type: ignore[arg-type]
    names: list[Entry] = [
        (rf"blocks\.{layer}\.(.+)", tuple(rf"own.{m}.{layer}.\1" for m in model.own)) for layer in range(own)
    ]
    names += [(rf"blocks\.{own + layer}\.(.+)", rf"blocks.{layer}.\1") for layer in range(len(model.blocks))]
    names += [(r"norm\.(.+)", r"norm.\1"), (r"(head|pre_logits)\..+", None), ("|".join(VIT_INPUT), None)]
    ours, strange = Table(tuple(names)).translated(weights)
    require_fit([f"{key}: missing" for key in VIT_INPUT if key not in weights] + strange)
    cls_1D, grid_LD = weights["pos_embed"][0].split([1, weights["pos_embed"].shape[1] - 1])
    for modality, each in model.tokens.items():
        tokens, kernel = cast(Tokens, each), weights["patch_embed.proj.weight"]
        if modality == "a":
            kernel = one_channel(kernel)
        elif modality == "v":
            kernel = central_frame(kernel, tokens.patch_embed.kernel_size[0])
        times, (rows, columns) = math.prod(tokens.grid[:-2]), tokens.grid[-2:]
        ours[f"tokens.{modality}.patch_embed.weight"] = kernel
        ours[f"tokens.{modality}.patch_embed.bias"] = weights["patch_embed.proj.bias"]
        ours[f"tokens.{modality}.positions"] = torch.cat(
            [cls_1D, zoom_positions(grid_LD, rows, columns).repeat(times, 1)]
        )
        ours[f"tokens.{modality}.cls_token"] = weights["cls_token"].flatten()
    return ours


def load(model: PolyViT, weights: Mapping[str, Any]) -> None:
    """Fills the network with weights of a network of ours, which may look at more modalities and datasets, with the
    authors', or with an image ViT's. Classifiers that these have not are new.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    if is_image_vit(weights):
        weights = from_image_vit(weights, model)
    elif any(key.startswith("vit_encoder/") for key in weights):
        weights = from_scenic(weights, model)
    others = tuple(f"{place}.{m}" for place in ("tokens", "own") for m in TOKENIZERS if m not in model.tokens)
    load_strict(model, weights, new=("heads",), unused=("heads", *others))
