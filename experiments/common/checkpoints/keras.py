"""Weights as Keras names them in TensorFlow's checkpoints (`model/…/<layer>/kernel`); `flax.py` has their layout."""

from __future__ import annotations

from experiments.common.checkpoints.table import Entry

LEAVES = {
    **{"kernel": "weight", "gamma": "weight", "embeddings": "weight", "weight": "weight"},
    **{"bias": "bias", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"},
}
"""Their names in a layer -> torch's."""
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
"""Of every variable's key in a file."""


def layer(theirs: str, ours: str) -> Entry:
    r"""Of a `Table`: a layer's weights. Groups of the pattern `theirs` are `\1`, … in `ours`."""
    return rf"{theirs}/(?P<leaf>{'|'.join(LEAVES)})", lambda match: f"{ours}.{LEAVES[match['leaf']]}"
