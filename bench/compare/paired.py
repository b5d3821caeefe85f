"""Two sets of predictions on the clips that both have: the difference of each metric, and how sure it is.

A paired bootstrap: each resample of the clips measures both sides, so that what makes a clip easy or hard for both
drops out of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import UserError
from bench.tasks import MetricInfo, Predictions, statistic, task_of
from bench.tasks.metrics import RESAMPLES, resamples
from datamodules.boards import Board

OF_FOLD = "\x1f"
"""Between a fold and a clip's id, where several folds score one clip: it is drawn with all of its scores."""


class ComparisonError(UserError, ValueError):
    """Predictions that cannot be compared; the message names the board and what does not fit."""


@dataclass(frozen=True)
class Difference:
    """A metric of two sides on the same clips. `change` is after - before, whichever of them is better."""

    metric: str
    info: MetricInfo
    before: float
    after: float
    low: float
    """Of the 95 % interval of the change; it always holds the change itself."""
    high: float
    p: float
    """Two-sided: how often a resample's change lies on the other side of 0, twice."""

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def gain(self) -> float:
        """The change, turned so that more is better."""
        return self.change if self.info.better == "higher" else -self.change


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds."""

    differences: dict[str, Difference]
    """By metric, in the order of `Task.metrics`; a metric that a side has no value of is left out."""
    n: int
    """Clips, or videos, that both sides were measured on."""


def compare(
    board: Board,
    before: Predictions,
    after: Predictions,
    modalities: tuple[str, str],
    count: int = RESAMPLES,
) -> Comparison:
    """Measures two sides on the clips that both have.

    Retrieval's gallery too is that of the common clips, so clips that one side misses count for neither.

    Args:
        board: what is measured.
        before, after: the two sides, in any order of the clips.
        modalities: whose scores are taken of each; not of retrieval, whose board says.
        count: resamples.

    Raises:
        ComparisonError: no common clips, or other labels or groups of them.
        bench.tasks.EvaluationError: see `tasks.evaluate`.
    """
    before, after = _on_common_clips(board, before, after)
    sides = [statistic(board, m, p) for p, m in zip((before, after), modalities, strict=True)]
    units = np.sort(sides[0].units)
    if not np.array_equal(units, np.sort(sides[1].units)):
        raise ComparisonError(f"{board.name}: the two sides group their clips in different ways")
    clips, clip_of = np.unique([unit.rpartition(OF_FOLD)[2] for unit in units], return_inverse=True)
    places = [clip_of[np.searchsorted(units, side.units)] for side in sides]

    def measure(weight_UB: NDArray) -> list[dict[str, NDArray]]:
        return [side.measure(weight_UB[place]) for side, place in zip(sides, places, strict=True)]

    whole = measure(np.ones((len(clips), 1), np.float32))
    blocks = [measure(weight_UB) for weight_UB in resamples(len(clips), count)]
    differences = {}
    for name, info in task_of(board).metrics.items():
        was, now = (float(side[name][0]) for side in whole)
        change_B = np.concatenate([right[name] - left[name] for left, right in blocks])
        if np.isfinite([was, now]).all() and np.isfinite(change_B).any():
            low, high = sides[0].interval(change_B, now - was)
            differences[name] = Difference(name, info, was, now, low, high, _p_value(change_B))
    return Comparison(differences, len(clips))


def _p_value(change_B: NDArray) -> float:
    """Twice the share of resamples on the rarer side of 0, the sample itself counted in (never 0); 0 is on both."""
    known_B = change_B[np.isfinite(change_B)]
    rarer = min((known_B <= 0).sum(), (known_B >= 0).sum())
    return float(min(1.0, 2 * (rarer + 1) / (len(known_B) + 1)))


def _on_common_clips(board: Board, before: Predictions, after: Predictions) -> tuple[Predictions, Predictions]:
    ids = [np.asarray(side.clip_id, dtype=str) for side in (before, after)]
    common = np.intersect1d(ids[0], ids[1])
    if not len(common):
        raise ComparisonError(f"{board.name}: the two sides have no clip in common")
    sides = [
        replace(side.take(_rows(board, own, common)), missing=0) for side, own in zip((before, after), ids, strict=True)
    ]
    labels = [np.asarray(side.target).reshape(len(common), -1) for side in sides]
    if labels[0].shape != labels[1].shape:
        raise ComparisonError(f"{board.name}: {labels[0].shape[1]} classes before, {labels[1].shape[1]} after")
    changed = common[(labels[0] != labels[1]).any(1)]
    if len(changed):
        raise ComparisonError(
            f"{board.name}: {len(changed)} clips have other labels before and after, first {changed[0]}"
        )
    return sides[0], sides[1]


def _rows(board: Board, ids: NDArray[np.str_], wanted: Sequence[str] | NDArray[np.str_]) -> NDArray[np.intp]:
    index = pd.Index(ids)
    if not index.is_unique:
        raise ComparisonError(f"{board.name}: clip {ids[index.duplicated()][0]} more than once")
    return index.get_indexer(wanted)
