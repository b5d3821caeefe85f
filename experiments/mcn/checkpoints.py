"""Weights from elsewhere: the authors' released files `e{N}.pth`.

Their `Net` and our `MCN` compute the same, only the names differ (DAVEnet's own are in `common/davenet_names.py`):

    DAVEnet.*                  ->  audio_branch.davenet.*
    DAVEnet_projection.*       ->  audio_branch.projection.*
    GU_audio.fc.*, .cg.fc.*    ->  audio_branch.gated.fc.*, .gate.fc.*
    GU_video.*                 ->  video_unit.*
    text_pooling_caption.fc.*  ->  text_branch.pool.fc.*
    GU_text_captions.*         ->  text_branch.gated.*
    recon_a.*, _v.*, _t.*      ->  decoders.a.*, .v.*, .t.*

What theirs hold but never use is left out: `DAVEnet.batchnorm1`.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from experiments.common.checkpoints.davenet_names import (
    BRANCHES,
    is_official,
    rename_davenet,
    rename_layers,
    without_module,
)
from experiments.common.weights import load_strict, matches
from experiments.mcn.model import MCN

_LAYERS = BRANCHES | {f"recon_{modality}": f"decoders.{modality}" for modality in "avt"}
_SINKHORN = ("projection_head", "classification", "classification2", "classification3")


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `MCN`, without what is never used; a key that has no place keeps its name.

    Raises:
        ValueError: for weights of a model that clusters by Sinkhorn, naming the keys that tell.
    """
    theirs = without_module(weights)
    if heads := [key for key in theirs if matches(key, _SINKHORN)]:
        raise ValueError(
            "these are weights of a variant with a cluster head (Sinkhorn, withMLP=1), which is not MCN's k-means: "
            f"{', '.join(heads)}. Take a file without them"
        )
    rest = {key: value for key, value in theirs.items() if not matches(key, ("DAVEnet", *_LAYERS))}
    return rename_davenet(theirs, "DAVEnet", "audio_branch.davenet") | rename_layers(theirs, _LAYERS) | rest


def load(net: MCN, weights: Mapping[str, Tensor]) -> None:
    """Fills the network with its own weights or the authors'.

    Raises:
        ValueError: for weights of a variant with a cluster head, or naming every key that is missing, unknown or of
            another shape.
    """
    load_strict(net, from_official(weights) if is_official(weights) else weights)
