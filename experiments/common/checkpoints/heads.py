"""Classifiers of other classes, which are left out so that ours starts afresh."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from experiments.common.weights import matches

HEAD = ("head",)
"""Where a classifier lies in a network of ours."""


def without_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights but for those of `HEAD`."""
    return {key: value for key, value in weights.items() if not matches(key, HEAD)}


def without_other_head(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], classifiers: tuple[str, ...] = ("head.weight",)
) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The weights, without their head where it is for another number of classes than ours, and what is then `new`.

    Args:
        weights: under our names.
        own: the network's present ones.
        classifiers: names of weights as long as there are classes, of which a network has one at most.
    """
    theirs = _classes(weights, classifiers)
    return (weights, ()) if theirs in (None, _classes(own, classifiers)) else (without_head(weights), HEAD)


def _classes(weights: Mapping[str, Tensor], classifiers: tuple[str, ...]) -> int | None:
    return next((len(weights[key]) for key in classifiers if key in weights), None)
