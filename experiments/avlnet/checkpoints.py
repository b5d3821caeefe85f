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
from experiments.common.checkpoints.davenet_names import BRANCHES, davenet, is_official, layers
from experiments.common.checkpoints.table import Table, bare
from experiments.common.weights import load_strict

NAMES: dict[Text, str] = {"none": "AVLnet", "tri": "AVLnet-Text-Tri", "fused": "AVLnet-Text-Fused"}
FUSED = {
    "DAVEnet_projection": "fused_branch.audio.projection",
    "GU_video": "video_unit",
    "text_pooling_caption": "fused_branch.pool",
    "GU_audio_text": "fused_branch",
}


def variant(weights: Mapping[str, Tensor]) -> Text:
    """What part words have in the authors' or our own weights."""
    modules = {key.split(".")[0] for key in bare(weights)}
    if modules & {"GU_audio_text", "fused_branch"}:
        return "fused"
    return "tri" if modules & {"GU_text_captions", "text_branch"} else "none"


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `AVLnet`, without what is never used.

    Raises:
        ValueError: naming the keys that have no place here.
    """
    fused = variant(weights) == "fused"
    audio, shapes = davenet("DAVEnet", "fused_branch.audio.davenet" if fused else "audio_branch.davenet")
    names = (*layers(FUSED), (r"GU_audio\..+", None)) if fused else layers(BRANCHES)
    return Table((*audio, *names), shapes).renamed(weights)


def load(net: AVLnet, weights: Mapping[str, Tensor]) -> None:
    """Fills the network with its own weights or the authors'.

    Raises:
        ValueError: for weights of another variant, or naming every key that is missing, unknown or of another shape.
    """
    if (theirs := variant(weights)) != net.words:
        raise ValueError(f"these are weights of {NAMES[theirs]}, but the stage is one of {NAMES[net.words]}")
    load_strict(net, from_official(weights) if is_official(weights) else weights)
