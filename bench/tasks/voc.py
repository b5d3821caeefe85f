"""Tagging as PASCAL VOC 2007's devkit measures it (`VOCevalcls.m`; docs/protocols.md, section 19).

Of a class, the pictures count in which it is there or not; one in which it is only seen with difficulty is not asked
of it. Precision is interpolated: at a recall it is the highest that is reached there or further down; AP is its mean at
the recalls 0, 0.1, ..., 1. Beside it stands the area under precision without interpolation, as of all other tags. Tied
scores are one threshold; the devkit takes them in the order in which the pictures come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.tasks.base import MetricInfo, Statistic
from bench.tasks.metrics import Floats, macro, random_average_precision, unbiased_interval
from bench.tasks.predictions import Predictions
from bench.tasks.tagging import TaggingTask
from datamodules.table import arrow
from datamodules.types import Similarity

if TYPE_CHECKING:
    from datamodules.manifest.build import Manifest

LEVELS = 10
"""Of recall above 0, evenly spaced."""
ROUNDING = 1e-9
DRAWN = 20_000
"""Pictures, of which random orders are drawn for what chance gets."""


@dataclass
class PartlyJudged(Predictions):
    """Of some classes nobody says whether a clip has them."""

    ignored: Sequence[Sequence[int]] = ()
    """[N] those of each clip."""

    def take(self, rows: NDArray[np.intp]) -> Self:
        return replace(super().take(rows), ignored=[self.ignored[row] for row in rows])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        return replace(super().joined(parts), ignored=[classes for part in parts for classes in part.ignored])

    def to_table(self) -> pa.Table:
        ignored = [list(map(int, classes)) for classes in self.ignored]
        return super().to_table().append_column("ignored", pa.array(ignored, pa.list_(pa.int16())))

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        found = super().from_table(table.drop_columns("ignored"))
        return replace(found, ignored=table["ignored"].to_pylist())


class _OfClass(NamedTuple):
    """What is asked of one class."""

    clips: NDArray[np.intp]
    target: NDArray[np.bool_]
    score: Floats


class VOCTask(TaggingTask):
    """See the module."""

    metrics: ClassVar[dict[str, MetricInfo]] = {
        "mAP11": MetricInfo("mAP (11 points)", percent=True),
        "mAP": TaggingTask.metrics["mAP"],
    }
    rule = (
        "A picture in which a class is only seen with difficulty is not asked of it. Means over classes leave out "
        "classes without positives; a remark counts them."
    )
    predictions = PartlyJudged
    columns = ("ignored",)

    def described(self, predictions: Predictions, scored: Manifest, similarity: Similarity) -> Predictions:
        """Also what is not asked."""
        rows = scored.table.set_index("clip_id").index.get_indexer(list(predictions.clip_id))
        ignored = arrow(scored.table["ignored"]).take(pa.array(rows)).to_pylist()
        described = super().described(predictions, scored, similarity)
        assert isinstance(described, PartlyJudged)
        return replace(described, ignored=ignored)

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over pictures."""
        asked = list(_asked(predictions, modality))

        def measure(weight_NB: Floats) -> dict[str, Floats]:
            each = [_average_precisions(of_class, weight_NB[of_class.clips]) for of_class in asked]
            points_BC, area_BC = (np.stack(values, axis=1) for values in zip(*each, strict=True))
            return {"mAP11": macro(points_BC), "mAP": macro(area_BC)}

        return Statistic(np.asarray(predictions.clip_id), measure, unbiased_interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What pictures in random order get; of 11 points the mean of drawn orders."""
        asked = [of_class for of_class in _asked(predictions, modality) if of_class.target.any()]
        areas = [random_average_precision(each.target.sum(), len(each.target)) for each in asked]
        return {"mAP11": float(np.mean([_random_points(each.target) for each in asked])), "mAP": float(np.mean(areas))}

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        """Also what is not asked."""
        assert isinstance(predictions, PartlyJudged)
        return super().notes(modality, predictions) | {"seen_with_difficulty": sum(map(len, predictions.ignored))}

    def by_class(self, modality: str, predictions: Predictions) -> NDArray[np.floating]:
        """[C] average precision at 11 points."""
        return np.array(
            [_average_precisions(each, np.ones((len(each.clips), 1)))[0][0] for each in _asked(predictions, modality)]
        )


def _asked(predictions: Predictions, modality: str) -> Iterator[_OfClass]:
    assert isinstance(predictions, PartlyJudged)
    target_NC, score_NC = predictions.target > 0, predictions.scores[modality]
    judged_NC = np.ones(target_NC.shape, dtype=bool)
    for row, classes in enumerate(predictions.ignored):
        judged_NC[row, list(classes)] = False
    for judged_N, target_N, score_N in zip(judged_NC.T, target_NC.T, score_NC.T, strict=True):
        clips = np.flatnonzero(judged_N)
        yield _OfClass(clips, target_N[clips], score_N[clips])


def _average_precisions(asked: _OfClass, weight_NB: Floats) -> tuple[Floats, Floats]:
    """(at 11 points [B], the area [B]); NaN where no positive has weight."""
    order = np.argsort(-asked.score.astype(np.float64), kind="stable")
    score_N, weight_NB = asked.score[order], np.asarray(weight_NB, np.float64)[order]
    last = np.flatnonzero(np.r_[score_N[1:] != score_N[:-1], True])  # of each run of tied scores
    hits_GB = (weight_NB * asked.target[order, None]).cumsum(0)[last]
    return _of_curve(hits_GB, weight_NB.cumsum(0)[last])


def _of_curve(hits_GB: Floats, taken_GB: Floats) -> tuple[Floats, Floats]:
    """The same by the pictures with the class, and all pictures, down to each threshold."""
    all_B, columns = hits_GB[-1], np.arange(hits_GB.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        recall_GB = hits_GB / all_B
        precision_GB = np.where(taken_GB > 0, hits_GB / taken_GB, 0)
    best_GB = np.maximum.accumulate(precision_GB[::-1])[::-1]
    reached = ((LEVELS * recall_GB < level - ROUNDING).sum(0) for level in range(LEVELS + 1))
    points_B = np.mean([best_GB[np.minimum(place_B, len(best_GB) - 1), columns] for place_B in reached], axis=0)
    area_B = (np.diff(recall_GB, axis=0, prepend=0) * precision_GB).sum(0)
    return np.where(all_B > 0, points_B, np.nan), np.where(all_B > 0, area_B, np.nan)


def _random_points(target_N: NDArray[np.bool_]) -> float:
    n = len(target_N)
    orders = np.random.default_rng(0).permuted(np.tile(target_N, (max(100, DRAWN // n), 1)), axis=1).T
    taken_N1 = np.arange(1, n + 1, dtype=np.float64)[:, None]
    return float(_of_curve(orders.cumsum(0).astype(np.float64), np.broadcast_to(taken_N1, orders.shape))[0].mean())
