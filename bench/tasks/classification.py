"""Single-label classification: top-1, top-5 and mean class accuracy.

VGGSound, ESC-50: docs/protocols.md, sections 2, 3.
"""

from __future__ import annotations

import numpy as np

from bench.tasks import Evaluation, EvaluationError, Predictions, Statistic, as_metrics
from bench.tasks.metrics import Floats, bootstrap, interval, macro, top_k
from datamodules.types import Board


def evaluate(board: Board, modality: str, predictions: Predictions) -> Evaluation:
    """The mean class accuracy leaves out, and `notes` counts, the classes that no clip has."""
    n, classes = predictions.target.shape
    empty = int(((predictions.target > 0).sum(0) == 0).sum())
    return Evaluation(
        metrics=as_metrics(bootstrap(statistic(board, modality, predictions).measure, n)),
        n=n,
        chance={"top1": 1 / classes, "top5": min(1.0, 5 / classes), "mean_class": 1 / classes},
        notes={"classes_without_clips": empty} if empty else {},
    )


def statistic(board: Board, modality: str, predictions: Predictions) -> Statistic:
    """Over clips."""
    target_NC, score_NC = predictions.target > 0, predictions.scores[modality]
    several = target_NC.sum(1) != 1
    if several.any():
        first = predictions.clip_id[np.flatnonzero(several)[0]]
        raise EvaluationError(
            f"{board.name}: {several.sum()} of {len(several)} clips have not exactly one class, first {first}"
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

    return Statistic(predictions.clip_id, measure, interval)
