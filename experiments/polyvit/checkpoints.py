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

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from experiments.common.checkpoints import flax
from experiments.common.checkpoints.image_vit import VIT_INPUT, as_tokens, is_image_vit
from experiments.common.checkpoints.table import Entry, Table
from experiments.common.networks.scenic import Tokens
from experiments.common.weights import load_strict, require_fit
from experiments.polyvit.model import PolyViT

TOKENIZERS = {"i": "tokenizer2d", "v": "tokenizer3d", "a": "tokenizer_spec"}


def from_scenic(weights: Mapping[str, Any], model: PolyViT) -> dict[str, Tensor]:
    """The authors' parameters, under names joined by `/`, -> a state dict.

    Raises:
        ValueError: naming every key that PolyViT does not have.
    """
    own = model.config.own_layers
    names: list[Entry] = [
        flax.module("vit_encoder/encoder_norm", "norm"),
        flax.module(r"classification_head_(\w+)/output_projection", r"heads.\1"),
    ]
    for layer in range(len(model.blocks)):
        names += flax.block(f"vit_encoder/encoderblock_{own + layer}", f"blocks.{layer}")
    for modality, theirs in TOKENIZERS.items():
        place = f"tokenizer/{theirs}"
        names += [
            flax.module(f"{place}/embedding", f"tokens.{modality}.patch_embed"),
            (f"{place}/cls", f"tokens.{modality}.cls_token"),
            (f"{place}/posembed_input/pos_embedding", f"tokens.{modality}.positions"),
        ]
        for layer in range(own):
            names += flax.block(f"{place}/encoderblock_{layer}", f"own.{modality}.{layer}")
    return flax.vit(weights, names)


def from_image_vit(weights: Mapping[str, Tensor], model: PolyViT) -> dict[str, Tensor]:
    """timm's ViT -> a state dict without classifiers, as scenic `projects/polyvit/model_utils.py` starts PolyViT: all
    tokenizers get its CLS and its kernel, and its positions fitted to their grids.

    Raises:
        ValueError: naming the keys that an image ViT does not have or lacks.
    """
    own = model.config.own_layers
    names: list[Entry] = [
        (rf"blocks\.{layer}\.(.+)", tuple(rf"own.{m}.{layer}.\1" for m in model.own)) for layer in range(own)
    ]
    names += [(rf"blocks\.{own + layer}\.(.+)", rf"blocks.{layer}.\1") for layer in range(len(model.blocks))]
    names += [(r"norm\.(.+)", r"norm.\1"), (r"(head|pre_logits)\..+", None), ("|".join(VIT_INPUT), None)]
    ours, strange = Table(tuple(names)).translated(weights)
    require_fit([f"{key}: missing" for key in VIT_INPUT if key not in weights] + strange)
    for modality, tokens in model.tokens.items():
        of_modality = as_tokens(weights, modality, cast(Tokens, tokens))
        ours |= {f"tokens.{modality}.{key}": value for key, value in of_modality.items()}
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
