"""Weights from elsewhere: the authors' released video encoders, `r2plus1d_18_*.pth`.

    stem.*, layer1.*, ...  ->  v.stem.*, v.layer1.*, ...
    fc.*                   ->  left out, where a file has it: the released ones do not

Theirs are loaded with `strict=False` (official `xdc.py`), which hides what does not fit; here it is named.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from experiments.common.checkpoints.table import Table, bare
from experiments.common.weights import load_strict
from experiments.xdc.model import Encoders

OFFICIAL = Table(((r"(stem|layer[1-4])\.(.+)", r"v.\1.\2"), (r"fc\.(weight|bias)", None)))
HEADS = ("heads", "head")
"""Where classifiers lie in the weights of our stages: of clusters, which have no identity from round to round, and of
classes."""


def load(net: Encoders, weights: Mapping[str, Tensor]) -> None:
    """Fills the encoders of a stage with those of another, or that of pictures with the authors'.

    Raises:
        ValueError: naming every key that is missing, unknown or of another shape.
    """
    if "stem.0.weight" in bare(weights):
        weights = OFFICIAL.renamed(weights)
    others = tuple(encoder for encoder in "va" if encoder not in net)
    load_strict(net, weights, unused=(*others, *HEADS))
