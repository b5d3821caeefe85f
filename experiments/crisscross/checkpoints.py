"""Weights from elsewhere: the authors' released encoders, `vid_crisscross_*` and `aud_crisscross_*`, and whole models.

    conv1.{0,1}.*                      ->  stem.{0,1}.*
    conv{2..5}x.N.spt_conv1.*, ...     ->  stages.{0..3}.N.main.0.*, ..., .norm.*, .shortcut.*  (pictures)
    block{1..4}.N.*                    ->  stages.{0..3}.N.*                                    (sound)
    {video,audio}_backbone.*           ->  encoders.{v,a}.*, as above
    {video,audio}_projector.layerN.*   ->  projectors.{v,a}.*, likewise the predictors

`{video,audio}_encoder.*` are backbone and projector once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from experiments.common.checkpoints.table import Entry, Table, bare
from experiments.common.weights import load_strict
from experiments.crisscross.model import CrissCross

_BLOCK = {
    **{"spt_conv1": "main.0", "spt_bn1": "main.1", "tmp_conv1": "main.3", "tmp_bn1": "main.4"},
    **{"spt_conv2": "main.6", "spt_bn2": "main.7", "tmp_conv2": "main.9", "out_bn": "norm", "res_conv": "shortcut"},
}
_STEM = [(r"conv1\.([01])\.(.+)", r"stem.\1.\2")]
_ENCODERS: dict[str, list[tuple[str, str]]] = {
    "v": _STEM
    + [
        (rf"conv{stage + 2}x\.(\d)\.{theirs}\.(.+)", rf"stages.{stage}.\1.{ours}.\2")
        for stage in range(4)
        for theirs, ours in _BLOCK.items()
    ],
    "a": _STEM + [(rf"block{stage + 1}\.(\d)\.(.+)", rf"stages.{stage}.\1.\2") for stage in range(4)],
}
HEADS = ("projectors", "predictors", "head", "svm")
"""What stands beside encoders in the weights of our stages."""


def _whole() -> Iterator[Entry]:
    for modality, name in {"v": "video", "a": "audio"}.items():
        for pattern, ours in _ENCODERS[modality]:
            yield rf"{name}_backbone\.{pattern}", f"encoders.{modality}.{ours}"
        for layer in (1, 2, 3):
            for part in (0, 1):
                ours = rf"projectors.{modality}.{3 * (layer - 1) + part}.\1"
                yield rf"{name}_projector\.layer{layer}\.{part}\.(.+)", ours
        yield rf"{name}_predictor\.layer1\.([01])\.(.+)", rf"predictors.{modality}.\1.\2"
        yield rf"{name}_predictor\.layer2\.(.+)", rf"predictors.{modality}.3.\1"
        yield rf"{name}_encoder\..+", None


WHOLE = Table(tuple(_whole()))


def load_encoder(net: nn.Module, weights: Mapping[str, Tensor], modality: str) -> None:
    """Fills an encoder with that of one of our stages, or with a released one.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    if "conv1.0.weight" in bare(weights):
        weights = Table(tuple(_ENCODERS[modality])).renamed(weights)
    own = {key.removeprefix(f"encoders.{modality}."): value for key, value in weights.items()}
    load_strict(net, own, unused=("encoders", *HEADS))


def load(net: CrissCross, weights: Mapping[str, Tensor]) -> None:
    """Fills a whole network with its own weights, or the authors'; raises as `load_encoder`."""
    official = any(key.startswith("video_backbone.") for key in bare(weights))
    load_strict(net, WHOLE.renamed(weights) if official else weights)
