"""Weights from elsewhere: the authors' `latest_model.pth`, whose `state_dict` this takes.

Their classes and ours compute the same, only the names differ (`module.` in front of all of them is left out):

    davenet.*                      ->  audio_encoder.*        convolutions lose an axis of length 1
    audio_token_proj.{fc,cg.fc}.*  ->  token_projection.a.0.{fc,gate.fc}.*
    audio_norm_layer.*             ->  token_projection.a.1.*
    audio_proj.{fc,cg.fc}.*        ->  projection.a.{fc,gate.fc}.*             and so for video (v) and text (t)
    fusion.masking_token           ->  masking_token
    fusion.blocks.*                ->  blocks.*

What theirs hold but never use is left out: `fusion.norm.*` and `davenet.batchnorm1.*`. The files with S3D's or CLIP's
features fit a network of those widths; the one of text and video alone fits, too, with an audio side never trained.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from experiments.common.checkpoints.davenet_names import davenet, layers
from experiments.common.checkpoints.table import Table, bare
from experiments.common.weights import load_strict
from experiments.everything_at_once.model import EverythingAtOnce

_AUDIO, _SHAPES = davenet("davenet", "audio_encoder")
_LAYERS = {
    f"{theirs}_{part}": ours.format(theirs[0])
    for theirs in ("audio", "video", "text")
    for part, ours in {
        "token_proj": "token_projection.{}.0",
        "norm_layer": "token_projection.{}.1",
        "proj": "projection.{}",
    }.items()
}
_FUSION = ((r"fusion\.(masking_token|blocks\..+)", r"\1"), (r"fusion\.norm\..+", None))
OFFICIAL = Table((*_AUDIO, *layers(_LAYERS), *_FUSION), _SHAPES)


def is_official(weights: Mapping[str, Tensor]) -> bool:
    """Whether the keys are those of the authors' `EverythingAtOnceModel` or a variant of it."""
    return "fusion.masking_token" in bare(weights)


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' keys -> those of `EverythingAtOnce`.

    Raises:
        ValueError: naming the keys that have no place in it.
    """
    return OFFICIAL.renamed(weights)


def load(net: EverythingAtOnce, weights: Mapping[str, Tensor]) -> None:
    """Fills the network with its own weights or the authors'.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    load_strict(net, from_official(weights) if is_official(weights) else weights)
