"""Weights from elsewhere: the authors' released files.

Their `Net` and our `AVLnet` compute the same, only the names differ (DAVEnet's own are in `common/davenet_names.py`):

    DAVEnet.*                            ->  audio_branch.davenet.*      in Fused fused_branch.audio.davenet.*
    DAVEnet_projection.*                 ->  audio_branch.projection.*   in Fused fused_branch.audio.projection.*
    GU_audio.fc.*, .cg.fc.*              ->  audio_branch.gated.fc.*, .gate.fc.*
    GU_video.*                           ->  video_unit.*
    text_pooling_caption.fc.*            ->  text_branch.pool.fc.*       in Fused fused_branch.pool.fc.*
    GU_text_captions.*                   ->  text_branch.gated.*
    GU_audio_text.fc_audio.*, .fc_text.*, .cg.fc.*  ->  fused_branch.fc_audio.*, .fc_text.*, .gate.fc.*

What theirs hold but never use is left out: `DAVEnet.batchnorm1`, and in Fused `GU_audio`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from experiments.avlnet.model import AVLnet, Text
from experiments.common.checkpoints.davenet_names import (
    BRANCHES,
    is_official,
    rename_davenet,
    rename_layers,
    without_module,
)
from experiments.common.weights import load_strict, matches

_FUSED = {
    "DAVEnet_projection": "fused_branch.audio.projection",
    "GU_video": "video_unit",
    "text_pooling_caption": "fused_branch.pool",
    "GU_audio_text": "fused_branch",
}


NAMES: dict[Text, str] = {"none": "AVLnet", "tri": "AVLnet-Text-Tri", "fused": "AVLnet-Text-Fused"}


def variant(weights: Mapping[str, Tensor]) -> Text:
    """What part words have in the authors' or our own weights."""
    modules = {key.split(".")[0] for key in without_module(weights)}
    if modules & {"GU_audio_text", "fused_branch"}:
        return "fused"
    return "tri" if modules & {"GU_text_captions", "text_branch"} else "none"


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `AVLnet`, without what is never used; a key that has no place keeps its name."""
    theirs, fused = without_module(weights), variant(weights) == "fused"
    names, audio = (_FUSED, "fused_branch.audio") if fused else (BRANCHES, "audio_branch")
    known = ("DAVEnet", *names, *(["GU_audio"] if fused else []))
    rest = {key: value for key, value in theirs.items() if not matches(key, known)}
    return rename_davenet(theirs, "DAVEnet", f"{audio}.davenet") | rename_layers(theirs, names) | rest


def load(net: AVLnet, weights: Mapping[str, Tensor]) -> None:
    """Fills the network with its own weights or the authors'.

    Raises:
        ValueError: for weights of another variant, or naming every key that is missing, unknown or of another shape.
    """
    if (theirs := variant(weights)) != net.words:
        raise ValueError(f"these are weights of {NAMES[theirs]}, but the stage is one of {NAMES[net.words]}")
    load_strict(net, from_official(weights) if is_official(weights) else weights)
