"""Single-label classification: top-1, top-5 and mean class accuracy; MAP@3.

VGGSound, ESC-50, FSDKaggle2018: docs/protocols.md, sections 2, 3, 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.tasks.base import ClassScores, EvaluationError, MetricInfo, Statistic
from bench.tasks.metrics import Floats, interval, macro, reciprocal_rank, top_k
from bench.tasks.predictions import Predictions
from datamodules.boards import Board, Classification

MATRIX = 60
"""Classes up to which the page shows the whole matrix of confusions; of more the pairs below."""
PAIRS = 40
BEST = 3
"""Places that count for MAP@3."""


class ClassificationTask(ClassScores[Classification]):
    """The mean class accuracy leaves out, and the notes count, the classes that no clip has."""

    metrics: ClassVar[dict[str, MetricInfo]] = {
        "top1": MetricInfo("top-1", percent=True),
        "top5": MetricInfo("top-5", percent=True),
        "mean_class": MetricInfo("mean class", percent=True),
    }
    rule = (
        "Tied classes share a clip's score. The mean over classes leaves out classes without clips; a remark counts "
        "them."
    )
    class_score = "accuracy"

    def __init__(self, board: Board):
        super().__init__(board)
        self.names_classes = self.zero_shot = self.options.by == "names"

    @property
    def title(self) -> str:
        return f"zero-shot {self.options.name}" if self.zero_shot else self.options.name

    def run_page(self, modality: str, predictions: Predictions) -> dict[str, Any]:
        """Also what is taken for what."""
        return super().run_page(modality, predictions) | confusions(
            predictions.target > 0, predictions.scores[modality]
        )

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over clips."""
        target_NC, score_NC = predictions.target > 0, predictions.scores[modality]
        several = target_NC.sum(1) != 1
        if several.any():
            first = predictions.clip_id[np.flatnonzero(several)[0]]
            raise EvaluationError(
                f"{self.board.name}: {several.sum()} of {len(several)} clips have not exactly one class, first {first}"
            )
        label_N = target_NC.argmax(1)
        top1_N, top5_N = top_k(label_N, score_NC, 1), top_k(label_N, score_NC, 5)
        class_CN = target_NC.T.astype(np.float32)

        def measure(weight_NB: Floats) -> dict[str, Floats]:
            total_B = weight_NB.sum(0, dtype=np.float64)
            with np.errstate(invalid="ignore"):  # classes without clips
                accuracy_BC = (class_CN @ (weight_NB * top1_N[:, None]) / (class_CN @ weight_NB)).T
            return {
                "top1": top1_N @ weight_NB / total_B,
                "top5": top5_N @ weight_NB / total_B,
                "mean_class": macro(accuracy_BC),
            }

        return Statistic(np.asarray(predictions.clip_id), measure, interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What classes in random order get."""
        classes = predictions.target.shape[1]
        return {"top1": 1 / classes, "top5": min(1.0, 5 / classes), "mean_class": 1 / classes}

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        """What is left out."""
        return {"classes_without_clips": int(((predictions.target > 0).sum(0) == 0).sum())}

    def by_class(self, modality: str, predictions: Predictions) -> NDArray[np.floating]:
        """[C] top-1 accuracy."""
        target_NC = predictions.target > 0
        right_N = top_k(target_NC.argmax(1), predictions.scores[modality], 1)
        with np.errstate(invalid="ignore"):  # classes without clips
            accuracy_C: NDArray[np.floating] = right_N @ target_NC / target_NC.sum(0)
        return accuracy_C

    def probability(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """A softmax over the classes."""
        from scipy.special import softmax

        probability_NC: NDArray[np.floating] = softmax(logits, axis=1)
        return probability_NC

    def mean_logits(self, logits: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Of a softmax over the classes."""
        from scipy.special import log_softmax, logsumexp

        return np.asarray(logsumexp([log_softmax(each, axis=1) for each in logits], axis=0) - np.log(len(logits)))


class RankedTask(ClassificationTask):
    """1 / rank of a clip's class, 0 beyond the third place, averaged over clips."""

    metrics: ClassVar[dict[str, MetricInfo]] = {
        "MAP@3": MetricInfo("MAP@3", percent=True),
        **ClassificationTask.metrics,
    }

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over clips."""
        units, measure, between = super().statistic(modality, predictions)
        precision_N = reciprocal_rank(predictions.target.argmax(1), predictions.scores[modality], BEST)

        def with_precision(weight_NB: Floats) -> dict[str, Floats]:
            mean_B = precision_N @ weight_NB / weight_NB.sum(0, dtype=np.float64)
            return {"MAP@3": mean_B, **measure(weight_NB)}

        return Statistic(units, with_precision, between)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What classes in random order get."""
        classes = predictions.target.shape[1]
        places = sum(1 / place for place in range(1, min(BEST, classes) + 1))
        return {"MAP@3": places / classes, **super().chance(modality, predictions)}


def confusions(target_NC: NDArray[np.bool_], score_NC: NDArray[np.floating]) -> dict[str, Any]:
    """What is taken for what, by the first of classes that share the best score.

    Returns:
        `matrix` [class][taken for], counting clips; of many classes the commonest `pairs` (class, taken for, clips).
    """
    label_N, count = target_NC.argmax(1), target_NC.shape[1]
    taken = np.bincount(label_N * count + score_NC.argmax(1), minlength=count**2).reshape(count, count)
    if count <= MATRIX:
        return {"matrix": taken.tolist()}
    np.fill_diagonal(taken, 0)
    commonest = np.argsort(-taken, axis=None, kind="stable")[:PAIRS]
    pairs = [[int(at // count), int(at % count), int(taken.flat[at])] for at in commonest]
    return {"pairs": [pair for pair in pairs if pair[2]]}
