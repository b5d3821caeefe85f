"""Weights from elsewhere: the authors' released files and torchvision's ImageNet ConvNeXts.

Their classes and ours compute the same, only the names differ (`module.` in front of all of them is left out):

    a_trans.*, v_trans.*                            ->  specific.a.*, specific.v.*
    a_in_proj.*, v_in_proj.*  (no specific blocks)  ->  specific.a.*, specific.v.*
    s_trans.*                                       ->  shared.av.*
    a_s_trans.*, v_s_trans.*  (SeperateTrans)       ->  shared.a.*, shared.v.*
    s_trans.mlp_head.*, a_s_trans.mlp_head.*, ...   ->  head.av.*, head.a.*, ...
    a_mlp.*, v_mlp.*          (no shared blocks)    ->  head.a.*, head.v.*
    model.0.*, model.2.0.*, model.2.2.*             ->  body.*, head.0.*, head.1.*   of the audio extractor

What theirs hold but never use is left out: a tower's `in_proj` where the width stays the same (it is square then), and
the `mlp_head` of `a_trans` and `v_trans`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torchvision
from torch import Tensor

from experiments.common.checkpoints.heads import HEAD, without_head
from experiments.common.checkpoints.library import offered
from experiments.common.checkpoints.table import Entry, Table
from experiments.common.networks.convolutions import one_channel
from experiments.common.weights import load_strict
from experiments.uavm.extractor import Extractor
from experiments.uavm.model import UAVM


def _tower(theirs: str, ours: str) -> tuple[Entry, ...]:
    return (
        (rf"{theirs}\.pos_embed", f"{ours}.positions"),
        (rf"{theirs}\.in_layernorm\.(weight|bias)", rf"{ours}.norm.\1"),
        (rf"{theirs}\.in_proj\.(weight|bias)", rf"{ours}.proj.\1"),
        (rf"{theirs}\.(blocks\..+)", rf"{ours}.\1"),
    )


OFFICIAL = Table(
    names=(
        (r"[av]_trans\.mlp_head\.[01]\.(weight|bias)", None),
        *_tower("a_trans", "specific.a"),
        *_tower("v_trans", "specific.v"),
        (r"([av])_in_proj\.([01]\..+)", r"specific.\1.\2"),
        *_tower("s_trans", "shared.av"),
        *_tower("a_s_trans", "shared.a"),
        *_tower("v_s_trans", "shared.v"),
        (r"s_trans\.mlp_head\.([01]\..+)", r"head.av.\1"),
        (r"([av])_s_trans\.mlp_head\.([01]\..+)", r"head.\1.\2"),
        (r"([av])_mlp\.([01]\..+)", r"head.\1.\2"),
    ),
    shapes=((r".+\.positions", lambda positions: positions[0]),),
)
EXTRACTOR = Table(
    (
        (r"model\.0\.(.+)", r"body.\1"),
        (r"model\.2\.0\.(weight|bias)", r"head.0.\1"),
        (r"model\.2\.2\.(weight|bias)", r"head.1.\1"),
    )
)
IMAGENET = Table(
    (
        (r"features\.(.+)", r"body.\1"),
        (r"classifier\.0\.(weight|bias)", r"head.0.\1"),  # the LayerNorm comes along as in `ConvNextOri`
        (r"classifier\.2\.(weight|bias)", None),
    )
)


def is_official(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the authors' `UnifiedTrans`, `SeperateTrans` or `FullAttTrans`."""
    return any(re.match(r"(module\.)?[av]_(trans|in_proj)\.", key) for key in weights)


def is_official_extractor(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the authors' audio extractor, `ConvNextOri`."""
    return any(re.match(r"(module\.)?model\.0\.0\.0\.", key) for key in weights)


def is_imagenet(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of torchvision's ConvNeXts."""
    return "features.0.0.weight" in weights and "classifier.2.weight" in weights


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `UAVM`, without what is never used.

    Raises:
        ValueError: naming the keys that have no place here.
    """
    square = {key for key, value in weights.items() if re.fullmatch(r".*_trans\.in_proj\.weight", key)
              and value.shape[0] == value.shape[1]}  # fmt: skip
    unused = square | {key.replace("in_proj.weight", "in_proj.bias") for key in square}
    return OFFICIAL.renamed({key: value for key, value in weights.items() if key not in unused})


def from_imagenet(weights: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """torchvision's keys -> those of an extractor of 3 channels, or of 1, whose stem is the sum of the RGB kernel.

    Raises:
        ValueError: naming the keys that have no place here.
    """
    ours = IMAGENET.renamed(weights)
    if channels == 1:
        ours["body.0.0.weight"] = one_channel(ours["body.0.0.weight"])
    return ours


def imagenet(size: str) -> Mapping[str, Tensor]:
    """torchvision's ImageNet weights of a ConvNeXt, which it downloads unless they are in its cache.

    Raises:
        ValueError: for a size that has none, or where they cannot be downloaded.
    """
    if size == "tiny_cpu":
        raise ValueError("model.extractor.size=tiny_cpu is no network with ImageNet weights; train it first")
    official = torchvision.models.get_model_weights(f"convnext_{size}").IMAGENET1K_V1
    return offered(
        lambda: official.get_state_dict(progress=False, check_hash=True),
        f"ImageNet's weights of ConvNeXt-{size}",
        official.url,
    )


def load(model: UAVM, weights: Mapping[str, Tensor]) -> None:
    """Fills the network with its own weights or the authors'.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    load_strict(model, from_official(weights) if is_official(weights) else weights)


def load_extractor(extractor: Extractor, weights: Mapping[str, Tensor], new_head: bool = False) -> None:
    """Fills an extractor with its own weights, the authors' (of sound) or ImageNet's.

    Args:
        extractor: with its classifier or without.
        weights: the classifier's linear layer, `head.1`, is left fresh where they are ImageNet's.
        new_head: the whole classifier stays fresh, so that any number of classes fits.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    new: tuple[str, ...] = ()
    if is_imagenet(weights):
        weights, new = from_imagenet(weights, extractor.channels), ("head.1",)
    elif is_official_extractor(weights):
        weights = EXTRACTOR.renamed(weights)
    if new_head:
        weights, new = without_head(weights), HEAD
    load_strict(extractor, weights, new=new, unused=() if hasattr(extractor, "head") else HEAD)
