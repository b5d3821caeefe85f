"""The names in the authors' state dicts of AVLnet, MCN and Everything at Once -> ours (AVLnet `model*.py`)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from experiments.common.checkpoints.table import Entry, Shape

BRANCHES = {
    "DAVEnet_projection": "audio_branch.projection",
    "GU_audio": "audio_branch.gated",
    "GU_video": "video_unit",
    "text_pooling_caption": "text_branch.pool",
    "GU_text_captions": "text_branch.gated",
}
"""AVLnet's modules of each modality, which MCN has too; for `layers`."""


def is_official(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the authors' `Net`, AVLnet's or MCN's."""
    return any(key.removeprefix("module.").startswith("DAVEnet.") for key in weights)


def davenet(theirs: str, ours: str) -> tuple[tuple[Entry, ...], tuple[Shape, ...]]:
    """Names and shapes, for a `Table`, of what lies under `theirs` (`DAVEnet`) and is to lie under `ours`.

    Their convolutions are 2-D with one axis of length 1. `batchnorm1`, which they never use, is left out.
    """

    def stage(match: re.Match[str]) -> str:
        return f"{ours}.stages.{int(match[1]) - 1}.{match[2]}.{match[3].replace('downsample', 'shortcut')}"

    names: tuple[Entry, ...] = (
        (rf"{theirs}\.batchnorm1\..+", None),
        (rf"{theirs}\.((?:conv1|bn1)\..+)", rf"{ours}.\1"),
        (rf"{theirs}\.layer([1-9])\.(\d+)\.((?:conv|bn)[12]\..+|downsample\.[01]\..+)", stage),
    )
    inside = re.escape(ours)
    return names, (
        (rf"{inside}\.conv1\.weight", lambda kernel: kernel.squeeze(1)),
        (rf"{inside}\.stages\..+", lambda value: value.squeeze(2) if value.ndim == 4 else value),
    )


def layers(names: Mapping[str, str]) -> tuple[Entry, ...]:
    """Names, for a `Table`, of linear layers, gated units and word pools: their module -> ours, e.g. `GU_video` ->
    `video_unit`; a gated unit's `cg` becomes `gate`."""
    return tuple(
        entry
        for theirs, ours in names.items()
        for entry in ((rf"{theirs}\.cg\.(.+)", rf"{ours}.gate.\1"), (rf"{theirs}\.(.+)", rf"{ours}.\1"))
    )
