"""Weights from elsewhere: the authors' released encoders, `vid_crisscross_*` and `aud_crisscross_*`, and whole models.

conv{2..5}x.N.spt_conv1.*, block{1..4}.N.*  ->  stages.{0..3}.N.main.0.*, stages.{0..3}.N.*
{video,audio}_{backbone,projector}.*        ->  {encoders,projectors}.{v,a}.*, and once more as _encoder
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from experiments.common.checkpoints.table import Entry, Table, bare
from experiments.common.weights import load_strict
from experiments.crisscross.model import Encoders

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


def load(net: Encoders, weights: Mapping[str, Tensor], modalities: str) -> None:
    """Fills a network with its own weights, those of a larger one, or the authors': of one encoder or of all; a
    ValueError names every key that is missing, unknown or of another shape."""
    theirs = bare(weights)
    if "conv1.0.weight" in theirs:
        ours = Table(tuple(_ENCODERS[modalities])).renamed(weights)
        weights = {f"encoders.{modalities}.{key}": value for key, value in ours.items()}
    elif any(key.startswith("video_backbone.") for key in theirs):
        weights = WHOLE.renamed(weights)
    load_strict(net, weights, unused=() if modalities == "va" else ("encoders", *HEADS))
