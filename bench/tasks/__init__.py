"""What is measured: one module a task, each turning a split's predictions into metrics with intervals.

`METRICS` is the one place that says what each metric's number means; the records and the tables read it too, so
nothing here imports torch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import UserError
from datamodules.types import Board, Scale, Similarity

MODULES = {task: f"bench.tasks.{task}" for task in ("tagging", "classification", "retrieval", "localisation")}
"""Board.task -> module with `evaluate` and `statistic` of (board, modality, predictions); imported when needed."""


class EvaluationError(UserError, ValueError):
    """Predictions that cannot be measured; the message names the board, what is wrong and the first clips."""


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is read and shown."""

    label: str
    better: Literal["higher", "lower"] = "higher"
    percent: bool = False
    """Stored as a fraction, shown times 100."""
    decimals: int = 1
    lowest: float = 0.0
    highest: float = 1.0


METRICS: dict[str, MetricInfo] = {
    "mAP": MetricInfo("mAP", percent=True),
    "AUC": MetricInfo("AUC", decimals=3),
    "dprime": MetricInfo("d′", decimals=2, lowest=-math.inf, highest=math.inf),
    "lwlrap": MetricInfo("lwlrap", percent=True),
    "top1": MetricInfo("top-1", percent=True),
    "top5": MetricInfo("top-5", percent=True),
    "mean_class": MetricInfo("mean class", percent=True),
    "R@1": MetricInfo("R@1", percent=True),
    "R@5": MetricInfo("R@5", percent=True),
    "R@10": MetricInfo("R@10", percent=True),
    "MedR": MetricInfo("MedR", better="lower", lowest=1.0, highest=math.inf),
    "MeanR": MetricInfo("MeanR", better="lower", lowest=1.0, highest=math.inf),
    "recall": MetricInfo("recall", percent=True),
    "recall_pooled": MetricInfo("pooled recall", percent=True),
    "IoD": MetricInfo("IoD", percent=True),
    "IoU": MetricInfo("IoU", percent=True),
}

TASK_METRICS: dict[str, tuple[str, ...]] = {
    "tagging": ("mAP", "AUC", "dprime", "lwlrap"),
    "classification": ("top1", "top5", "mean_class"),
    "retrieval": ("R@1", "R@5", "R@10", "MedR", "MeanR"),
    "localisation": ("recall", "recall_pooled", "IoD", "IoU"),
}
"""What each task measures, in the order in which tables show it."""


@dataclass(frozen=True)
class Metric:
    """A value and its 95 % bootstrap interval over clips."""

    value: float
    low: float
    high: float


@dataclass
class Predictions:
    """What a stage gave out for a split; row i of every array belongs to `clip_id[i]`."""

    clip_id: Sequence[str] | NDArray
    target: NDArray[np.floating]
    """[N, C], above 0 where the clip has the class; one-hot for classification."""
    scores: Mapping[str, NDArray[np.floating]]
    """Modality -> logits or what `scale` says [N, C], or for retrieval embeddings [N, D]."""
    group: NDArray[np.str_] | None = None
    """[N] what a row belongs to. Retrieval: what is to be found, a clip (of which there may be several captions) or its
    video; None: each row is a clip of its own. Localisation: the video of which the row is a second."""
    steps: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Localisation: group -> the classes that are to be found in it, in their order; one may come twice."""
    similarity: Similarity = "cosine"
    """How embeddings are compared."""
    scale: Scale = "logits"
    """What the scores of classes are; all tasks look at their order alone, ensembles do not."""
    missing: int = 0
    """Official clips of the split that are not among these."""
    classes: Sequence[str] = ()
    """[C] the names of the target's columns, where they are known."""

    def take(self, rows: NDArray[np.intp]) -> Predictions:
        """These rows, in this order."""
        return replace(
            self,
            clip_id=np.asarray(self.clip_id)[rows],
            target=np.asarray(self.target)[rows],
            scores={modality: np.asarray(score)[rows] for modality, score in self.scores.items()},
            group=None if self.group is None else np.asarray(self.group)[rows],
        )


class Statistic(NamedTuple):
    """A task's metrics as functions of how often each unit is drawn."""

    units: NDArray[np.str_]
    """[U] what a bootstrap draws, by name: clips, or videos where they are measured as a whole."""
    measure: Callable[[NDArray], dict[str, NDArray]]
    """Weights [U, B] -> metric -> [B]."""
    interval: Callable[[NDArray, float], tuple[float, float]]
    """(a number's values on resamples, the number itself) -> (low, high)."""


@dataclass(frozen=True)
class Evaluation:
    """What a task says of predictions."""

    metrics: dict[str, Metric]
    """In the order of `TASK_METRICS`."""
    n: int
    """Clips scored."""
    chance: dict[str, float]
    """Metric -> its expected value for a random scorer on these clips."""
    notes: dict[str, int] = field(default_factory=dict)
    """What a reader must know about the numbers, e.g. `classes_without_positives`."""


def evaluate(board: Board, modality: str, predictions: Predictions) -> Evaluation:
    """The metrics of a board.

    The order of the clips does not matter, not even for the intervals: they are sorted by id first.

    Args:
        board: what is measured.
        modality: whose logits are scored. Retrieval scores embeddings of `board.query` against `board.gallery`.
        predictions: each clip of the split once.

    Raises:
        EvaluationError: on a modality that is not there, a clip id that occurs twice, shapes that do not fit, scores or
            targets that are not finite, or no clips.
    """
    return _module(board).evaluate(board, modality, _scored(board, modality, predictions))


def statistic(board: Board, modality: str, predictions: Predictions) -> Statistic:
    """What `evaluate` bootstraps, for those who draw the clips themselves. Arguments and errors are the same."""
    return _module(board).statistic(board, modality, _scored(board, modality, predictions))


def _module(board: Board) -> ModuleType:
    return importlib.import_module(MODULES[board.task])


def _scored(board: Board, modality: str, predictions: Predictions) -> Predictions:
    """The predictions that the board measures, checked and sorted by clip id."""
    needed = (board.query, board.gallery) if board.task == "retrieval" else (modality,)
    return _check(board, needed, predictions)


def groups_of(board: Board, table: pd.DataFrame, clip_id: Sequence[str]) -> NDArray[np.str_] | None:
    """`Predictions.group` of some clips of a manifest's table; None where a board's task needs none."""
    if board.task == "localisation":
        group = table["group"]
    elif board.task != "retrieval":
        return None
    elif board.unit == "video":
        group = table["video_id"]
    else:  # sentences of one segment share it
        group = table.groupby(["video_id", "start", "end"])["clip_id"].transform("first")
    return group.to_numpy(str)[pd.Index(table["clip_id"]).get_indexer(clip_id)]


def _check(board: Board, modalities: Sequence[str], predictions: Predictions) -> Predictions:
    """The predictions of these modalities sorted by clip id, or an error that says what is wrong with them."""
    ids, target = np.asarray(predictions.clip_id, dtype=str), np.asarray(predictions.target)
    if not len(ids):
        raise EvaluationError(f"{board.name}: no clips to evaluate")
    if target.ndim != 2 or len(target) != len(ids):
        raise EvaluationError(f"{board.name}: target of shape {target.shape} for {len(ids)} clips; expected [N, C]")
    distinct, counts = np.unique(ids, return_counts=True)
    if len(distinct) < len(ids):
        raise EvaluationError(
            f"{board.name}: {_some(distinct[counts > 1])} more than once; every clip must be evaluated exactly once"
        )
    _require_finite(board, "targets", target, ids)
    for modality in modalities:
        if modality not in predictions.scores:
            have = ", ".join(predictions.scores) or "none"
            raise EvaluationError(f"{board.name}: no scores for modality {modality!r}; the method gave: {have}")
        score = np.asarray(predictions.scores[modality])
        if score.ndim != 2 or len(score) != len(ids) or (board.task != "retrieval" and score.shape != target.shape):
            raise EvaluationError(f"{board.name}: scores {score.shape} of {modality!r} do not fit {target.shape}")
        # As they will be compared: a float64 that float32 cannot hold would tie with all, or stand before all.
        dots = board.task == "retrieval" and predictions.similarity == "dot"
        with np.errstate(over="ignore"):
            compared = score.astype(np.float32, copy=False) if dots else score
        _require_finite(board, f"scores of {modality!r}{' as float32' if dots else ''}", compared, ids)
    scores = {modality: predictions.scores[modality] for modality in modalities}
    return replace(predictions, clip_id=ids, target=target, scores=scores).take(np.argsort(ids))


def _require_finite(board: Board, what: str, values: NDArray, ids: NDArray) -> None:
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise EvaluationError(f"{board.name}: {what} are NaN or infinite for {_some(np.sort(ids[bad]))} of {len(ids)}")


def _some(ids: NDArray, shown: int = 5) -> str:
    """`3 clips (a, b, c)`; no more than the first few are named."""
    names = ", ".join(ids[:shown]) + (", …" if len(ids) > shown else "")
    return f"{len(ids)} {'clip' if len(ids) == 1 else 'clips'} ({names})"


def as_metrics(values: Mapping[str, tuple[float, float, float]]) -> dict[str, Metric]:
    """(value, low, high) of `metrics.bootstrap` -> metrics, the intervals cut to the numbers that are possible."""
    return {
        name: Metric(value, max(low, METRICS[name].lowest), min(high, METRICS[name].highest))
        for name, (value, low, high) in values.items()
    }
