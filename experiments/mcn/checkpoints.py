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

from experiments.common.checkpoints.davenet_names import BRANCHES, davenet, is_official, layers
from experiments.common.checkpoints.table import Table, bare
from experiments.common.weights import load_strict, matches
from experiments.mcn.model import MCN

_AUDIO, _SHAPES = davenet("DAVEnet", "audio_branch.davenet")
OFFICIAL = Table((*_AUDIO, *layers(BRANCHES), (r"recon_([avt])\.(.+)", r"decoders.\1.\2")), _SHAPES)
SINKHORN = ("projection_head", "classification", "classification2", "classification3")


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `MCN`, without what is never used.

    Raises:
        ValueError: for weights of a model that clusters by Sinkhorn, or naming the keys that have no place here.
    """
    if heads := [key for key in bare(weights) if matches(key, SINKHORN)]:
        raise ValueError(
            "these are weights of a variant with a cluster head (Sinkhorn, withMLP=1), which is not MCN's k-means: "
            f"{', '.join(heads)}. Take a file without them"
        )
    return OFFICIAL.renamed(weights)


def load(net: MCN, weights: Mapping[str, Tensor]) -> None:
    """Fills the network with its own weights or the authors'.

    Raises:
        ValueError: for weights of a variant with a cluster head, or naming every key that is missing, unknown or of
            another shape.
    """
    load_strict(net, from_official(weights) if is_official(weights) else weights)
