"""Localising what sounds: cIoU@0.5, its AUC, and whether the peak lies in the object (docs/protocols.md, section 11).

A clip's map is resized to 224 x 224 pixels, and its upper half, the pixels above the median, is compared with the
object. As official code has it (hche11/Localizing-Visual-Sounds-the-Hard-Way `test.py`, `utils.py`), cIoU is what the
two share, weighted by the truth, over the truth and the found pixels where there is none. The peak is in the object
where the truth is whole; where several pixels are highest, the share of them counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from bench.tasks.base import EvaluationError, MetricInfo, Statistic, Task
from bench.tasks.metrics import Floats, interval
from bench.tasks.predictions import ABOUT, Predictions
from datamodules.boards import SoundSources
from datamodules.table import arrow
from datamodules.types import Similarity

if TYPE_CHECKING:
    from datamodules.manifest.build import Manifest

SIDE = 224
THRESHOLDS = 0.05 * np.arange(21)
"""Of cIoU, over which the share of clips that reach it is integrated."""
Boxes = Sequence[Sequence[float]]
"""x and y of one corner, then of the opposite one, as shares of the picture's width and height."""


@dataclass
class MapPredictions(Predictions):
    """Scores are maps [N, H, W]."""

    boxes: Sequence[Boxes] = ()
    """[N] of each clip."""

    def take(self, rows: NDArray[np.intp]) -> Self:
        return replace(super().take(rows), boxes=[self.boxes[row] for row in rows])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        return replace(super().joined(parts), boxes=[boxes for part in parts for boxes in part.boxes])

    def to_table(self) -> pa.Table:
        """Maps as rows of numbers."""
        flat = {name: np.asarray(score).reshape(len(score), -1) for name, score in self.scores.items()}
        table = Predictions.to_table(replace(self, scores=flat))
        shapes = {name: np.shape(score)[1:] for name, score in self.scores.items()}
        about = json.loads(table.schema.metadata[ABOUT]) | {"shapes": shapes}
        boxes = [[list(map(float, box)) for box in of_clip] for of_clip in self.boxes]
        table = table.append_column("boxes", pa.array(boxes, pa.list_(pa.list_(pa.float64()))))
        return table.replace_schema_metadata({ABOUT: json.dumps(about, sort_keys=True)})

    @classmethod
    def from_table(cls, table: pa.Table) -> Self:
        about = json.loads(table.schema.metadata[ABOUT])
        shapes = about.pop("shapes")
        flat = super().from_table(table.drop_columns("boxes").replace_schema_metadata({ABOUT: json.dumps(about)}))
        scores = {name: score.reshape(len(score), *shapes[name]) for name, score in flat.scores.items()}
        return replace(flat, scores=scores, boxes=table["boxes"].to_pylist())


class _Found(NamedTuple):
    """[N] what is measured of each clip."""

    ciou: Floats
    peak: Floats


class SoundSourcesTask(Task[SoundSources]):
    """Chance is what a map gets that is brightest in the picture's middle. A map whose places are all the same says
    nothing: it finds nothing (the official code takes all of the picture, which is a success where the object is
    large). A clip without an object, whose boxes are empty, is never found. `notes` counts both."""

    metrics: ClassVar[dict[str, MetricInfo]] = {
        "cIoU@0.5": MetricInfo("cIoU@0.5", percent=True),
        "AUC_cIoU": MetricInfo("AUC", percent=True),
        "peak": MetricInfo("peak in the object", percent=True),
    }
    rule = "Chance is what the picture's middle gets."
    predictions = MapPredictions
    outputs = ("map",)
    columns = ("boxes",)

    def hub_name(self, modality: str) -> str:
        return "image-segmentation"

    def described(self, predictions: Predictions, scored: Manifest, similarity: Similarity) -> Predictions:
        """Also the boxes."""
        table: pd.DataFrame = scored.table
        rows = pd.Index(table["clip_id"]).get_indexer(list(predictions.clip_id))
        boxes = arrow(table["boxes"]).take(pa.array(rows)).to_pylist()
        described = super().described(predictions, scored, similarity)
        assert isinstance(described, MapPredictions)
        return replace(described, boxes=boxes)

    def check_scores(self, modality: str, score: Floats, predictions: Predictions) -> None:
        """Maps may be of any size."""
        ids = np.asarray(predictions.clip_id)
        if score.ndim != 3 or len(score) != len(ids):
            raise EvaluationError(
                f"{self.board.name}: maps {score.shape} of {modality!r} for {len(ids)} clips; expected [N, H, W]"
            )
        assert isinstance(predictions, MapPredictions)
        if len(predictions.boxes) != len(ids):
            raise EvaluationError(f"{self.board.name}: boxes of {len(predictions.boxes)} of {len(ids)} clips")
        self.require_finite(f"maps of {modality!r}", score, ids)

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over clips."""
        found = self._measured(predictions, predictions.scores[modality])

        def measure(weight_NB: Floats) -> dict[str, Floats]:
            total_B = weight_NB.sum(0, dtype=np.float64)
            return {name: value_N @ weight_NB / total_B for name, value_N in _metrics(found).items()}

        return Statistic(np.asarray(predictions.clip_id), measure, interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What the picture's middle gets."""
        away = (np.arange(SIDE) - (SIDE - 1) / 2) ** 2
        middle_HW = -(away[:, None] + away)
        found = self._measured(predictions, np.broadcast_to(middle_HW, (len(predictions.clip_id), SIDE, SIDE)))
        return {name: float(value_N.mean()) for name, value_N in _metrics(found).items()}

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        assert isinstance(predictions, MapPredictions)
        flat = [np.ptp(map_HW) == 0 for map_HW in predictions.scores[modality]]
        without = [not truth(boxes, self.options.truth).any() for boxes in predictions.boxes]
        return {"maps_that_are_the_same_everywhere": sum(flat), "clips_without_an_object": sum(without)}

    def _measured(self, predictions: Predictions, map_NHW: Floats) -> _Found:
        assert isinstance(predictions, MapPredictions)
        pairs = zip(map_NHW, predictions.boxes, strict=True)
        each = [overlap(resized(map_HW), truth(boxes, self.options.truth)) for map_HW, boxes in pairs]
        return _Found(*np.array(each, np.float64).T)


def truth(boxes: Boxes, rule: Literal["", "consensus"]) -> Floats:
    """[SIDE, SIDE] 0..1, how much each pixel is part of the object; corners are cut to whole pixels."""
    count_HW = np.zeros((SIDE, SIDE))
    for box in boxes:
        left, top, right, bottom = (SIDE * np.clip(np.asarray(box, np.float64), 0, 1)).astype(int)
        count_HW[top:bottom, left:right] += 1
    return np.minimum(count_HW / 2 if rule == "consensus" else count_HW, 1)


def resized(map_HW: Floats) -> Floats:
    """[SIDE, SIDE] float64, bilinear between the middles of pixels, as OpenCV's `INTER_LINEAR`."""
    height, width = map_HW.shape
    return _weights(height) @ map_HW.astype(np.float64) @ _weights(width).T


def _weights(pixels: int) -> Floats:
    """[SIDE, pixels] of the two nearest pixels; beyond the outer ones' middles these alone."""
    place = np.clip((np.arange(SIDE) + 0.5) * pixels / SIDE - 0.5, 0, pixels - 1)
    weights: Floats = np.maximum(1 - np.abs(place[:, None] - np.arange(pixels)), 0)
    return weights


def overlap(map_HW: Floats, truth_HW: Floats) -> tuple[float, float]:
    """(cIoU, the share of the highest pixels that are in the object)."""
    highest = map_HW == map_HW.max()
    if highest.all():
        return 0.0, 0.0
    # Above the median, or the highest where more than half are as high: official code keeps these, too.
    found_HW = (map_HW > np.partition(map_HW, SIDE * SIDE // 2, axis=None)[SIDE * SIDE // 2]) | highest
    union = truth_HW.sum() + (found_HW & (truth_HW == 0)).sum()
    return float((found_HW * truth_HW).sum() / union), float((truth_HW[highest] == 1).mean())


def _metrics(found: _Found) -> Mapping[str, Floats]:
    """Metric -> [N], of which the mean is the metric."""
    reached_NT = (found.ciou[:, None] >= THRESHOLDS).astype(np.float64)
    return {
        "cIoU@0.5": (found.ciou >= 0.5).astype(np.float64),
        "AUC_cIoU": np.trapezoid(reached_NT, THRESHOLDS, axis=1),
        "peak": found.peak,
    }
