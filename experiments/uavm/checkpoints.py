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
from collections.abc import Callable, Mapping

import torchvision
from torch import Tensor

from experiments.common.weights import load_strict
from experiments.uavm.extractor import Extractor, summed_kernel
from experiments.uavm.model import UAVM

_TOWERS = {
    "a_trans": "specific.a",
    "v_trans": "specific.v",
    "s_trans": "shared.av",
    "a_s_trans": "shared.a",
    "v_s_trans": "shared.v",
}
_TOWER = re.compile(rf"({'|'.join(_TOWERS)})\.(.+)")
_IN_TOWER = (
    (r"pos_embed", "positions"),
    (r"in_layernorm\.(weight|bias)", r"norm.\1"),
    (r"in_proj\.(weight|bias)", r"proj.\1"),
    (r"(blocks\..+)", r"\1"),
)
_ELSEWHERE = (
    (r"([av])_in_proj\.([01]\..+)", r"specific.\1.\2"),
    (r"([av])_mlp\.([01]\..+)", r"head.\1.\2"),
)
_EXTRACTOR = (
    (r"model\.0\.(.+)", r"body.\1"),
    (r"model\.2\.0\.(weight|bias)", r"head.0.\1"),
    (r"model\.2\.2\.(weight|bias)", r"head.1.\1"),
)
_IMAGENET = (
    (r"features\.(.+)", r"body.\1"),
    (r"classifier\.0\.(weight|bias)", r"head.0.\1"),
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
    theirs = _without_prefix(weights)
    unused = {key for key in theirs if re.fullmatch(r"[av]_trans\.mlp_head\.[01]\.(weight|bias)", key)}
    for key, value in theirs.items():
        if (match := _TOWER.fullmatch(key)) and match[2] == "in_proj.weight" and value.shape[0] == value.shape[1]:
            unused |= {key, f"{match[1]}.in_proj.bias"}
    ours = _renamed({key: value for key, value in theirs.items() if key not in unused}, _rename)
    return {key: value[0] if key.endswith(".positions") else value for key, value in ours.items()}


def from_official_extractor(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `AudioConvNeXt`.

    Raises:
        ValueError: naming the keys that have no place here.
    """
    return _renamed(_without_prefix(weights), lambda key: _first(_EXTRACTOR, key))


def from_imagenet(weights: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """torchvision's keys -> those of an extractor of 3 channels, or of 1, whose stem is the sum of the RGB kernel.

    The classifier's LayerNorm comes along as in `ConvNextOri`; its linear layer, `head.1`, does not.

    Raises:
        ValueError: naming the keys that have no place here.
    """
    kept = {key: value for key, value in weights.items() if not key.startswith("classifier.2.")}
    ours = _renamed(kept, lambda key: _first(_IMAGENET, key))
    if channels == 1:
        ours["body.0.0.weight"] = summed_kernel(ours["body.0.0.weight"])
    return ours


def imagenet(size: str) -> dict[str, Tensor]:
    """torchvision's ImageNet weights of a ConvNeXt, which it downloads unless they are in its cache.

    Raises:
        ValueError: for a size that has none, or where they cannot be downloaded.
    """
    if size == "tiny_cpu":
        raise ValueError("model.extractor.size=tiny_cpu is no network with ImageNet weights; train it first")
    official = torchvision.models.get_model_weights(f"convnext_{size}").IMAGENET1K_V1
    try:
        return official.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:  # no network, or a damaged file
        raise ValueError(
            f"ImageNet's weights of ConvNeXt-{size} could not be downloaded ({error}). "
            f"Fetch {official.url} elsewhere and name the file with init=FILE"
        ) from error


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
        weights = from_official_extractor(weights)
    if new_head:
        weights, new = {key: value for key, value in weights.items() if not key.startswith("head.")}, ("head",)
    load_strict(extractor, weights, new=new, unused=() if hasattr(extractor, "head") else ("head",))


def _without_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The released files were saved out of DataParallel."""
    return {key.removeprefix("module."): value for key, value in weights.items()}


def _renamed(weights: Mapping[str, Tensor], rename: Callable[[str], str | None]) -> dict[str, Tensor]:
    names = {key: rename(key) for key in weights}
    if unknown := [key for key, name in names.items() if name is None]:
        raise ValueError("keys of the checkpoint that UAVM does not have: " + ", ".join(unknown))
    return {names[key]: value for key, value in weights.items()}


def _rename(key: str) -> str | None:
    if not (match := _TOWER.fullmatch(key)):
        return _first(_ELSEWHERE, key)
    tower = _TOWERS[match[1]]
    if head := re.fullmatch(r"mlp_head\.([01]\..+)", match[2]):
        return f"{tower.replace('shared', 'head')}.{head[1]}"
    name = _first(_IN_TOWER, match[2])
    return name and f"{tower}.{name}"


def _first(patterns: tuple[tuple[str, str], ...], key: str) -> str | None:
    for pattern, name in patterns:
        if match := re.fullmatch(pattern, key):
            return match.expand(name)
    return None
