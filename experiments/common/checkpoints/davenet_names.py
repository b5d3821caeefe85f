"""The names in the authors' state dicts of AVLnet, MCN and Everything at Once -> ours (AVLnet `model*.py`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

BRANCHES = {
    "DAVEnet_projection": "audio_branch.projection",
    "GU_audio": "audio_branch.gated",
    "GU_video": "video_unit",
    "text_pooling_caption": "text_branch.pool",
    "GU_text_captions": "text_branch.gated",
}
"""AVLnet's modules of each modality, which MCN has too; `rename_layers` takes it."""
_UNUSED = re.compile(r"batchnorm1\..+")  # declared in their DAVEnet, part of no computation
_BLOCK = re.compile(r"layer([1-9])\.(\d+\.(?:conv|bn)[12]\..+|\d+\.downsample\.[01]\..+)")
_FIRST = re.compile(r"(?:conv1|bn1)\..+")


def without_module(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same without the `module.` that files saved out of DataParallel have."""
    return {key.removeprefix("module."): value for key, value in weights.items()}


def is_official(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the authors' `Net`, AVLnet's or MCN's."""
    return any(key.startswith("DAVEnet.") for key in without_module(weights))


def rename_davenet(weights: Mapping[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    """What lies under `theirs` (`DAVEnet`), renamed to lie under `ours`, in the shapes of `davenet.DAVEnet`.

    Their convolutions are 2-D with one axis of length 1. `batchnorm1`, which they never use, is left out; any other key
    that is not of a DAVEnet keeps its name, so that `load_strict` complains of it by that name.

    Args:
        weights: the whole state dict, with or without `module.` in front.
        theirs, ours: names of the network in the two, without a dot at the end; they must differ.
    """
    renamed = {}
    for key, value in without_module(weights).items():
        name = key.removeprefix(f"{theirs}.")
        if name == key or _UNUSED.fullmatch(name):
            continue
        if block := _BLOCK.fullmatch(name):
            place = block[2].replace("downsample", "shortcut")
            renamed[f"{ours}.stages.{int(block[1]) - 1}.{place}"] = value.squeeze(2) if value.ndim == 4 else value
        elif _FIRST.fullmatch(name):
            renamed[f"{ours}.{name}"] = value.squeeze(1) if value.ndim == 4 else value
        else:
            renamed[key] = value
    return renamed


def rename_layers(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """What lies under a key of `names`, renamed to lie under its value: linear layers, gated units, word pools.

    Args:
        weights: the whole state dict, with or without `module.` in front.
        names: their module -> ours, e.g. `GU_video` -> `video_unit`; a gated unit's `cg` becomes `gate`.
    """
    renamed = {}
    for key, value in without_module(weights).items():
        module, _, rest = key.partition(".")
        if module in names:
            renamed[f"{names[module]}.{re.sub(r'^cg[.]', 'gate.', rest)}"] = value
    return renamed
