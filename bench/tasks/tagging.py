"""Multi-label tagging: macro mAP, mean AUC, d', lwlrap (AudioSet, FSD50K; docs/protocols.md, sections 1, 4)."""

from __future__ import annotations

import numpy as np

from bench.tasks import Evaluation, EvaluationError, Predictions, Statistic, as_metrics
from bench.tasks.metrics import (
    Floats,
    Rankings,
    bootstrap,
    dprime,
    label_precision,
    macro,
    random_average_precision,
    unbiased_interval,
)
from datamodules.types import Board


def evaluate(board: Board, modality: str, predictions: Predictions) -> Evaluation:
    """Macro means leave out, and `notes` counts, the classes that no clip has (AUC: or that all clips have)."""
    target_NC = predictions.target > 0
    n, classes = target_NC.shape
    positives_C = target_NC.sum(0)
    if not positives_C.any():
        raise EvaluationError(f"{board.name}: none of the {n} clips has a label")
    if not ((positives_C > 0) & (positives_C < n)).any():
        raise EvaluationError(f"{board.name}: every class has all or none of the {n} clips; nothing can be ranked")
    labels_N = target_NC.sum(1).astype(np.float64)
    return Evaluation(
        metrics=as_metrics(bootstrap(statistic(board, modality, predictions).measure, n, unbiased_interval)),
        n=n,
        chance={
            "mAP": float(np.nanmean(random_average_precision(positives_C, n))),
            "AUC": 0.5,
            "dprime": 0.0,
            "lwlrap": float(np.nansum(labels_N * random_average_precision(labels_N, classes)) / labels_N.sum()),
        },
        notes=_count_left_out(positives_C, n, labels_N),
    )


def statistic(board: Board, modality: str, predictions: Predictions) -> Statistic:
    """Over clips."""
    del board  # all boards measure the same
    target_NC, score_NC = predictions.target > 0, predictions.scores[modality]
    rankings = Rankings(target_NC, score_NC)
    precision_N, labels_N = label_precision(target_NC, score_NC)

    def measure(weight_NB: Floats) -> dict[str, Floats]:
        ap_BC, auc_BC = rankings.measure(weight_NB)
        auc_B = macro(auc_BC)
        with np.errstate(invalid="ignore"):  # a resample without any label
            lwlrap_B = (precision_N @ weight_NB) / (labels_N @ weight_NB)
        return {"mAP": macro(ap_BC), "AUC": auc_B, "dprime": dprime(auc_B), "lwlrap": lwlrap_B}

    return Statistic(predictions.clip_id, measure, unbiased_interval)


def _count_left_out(positives_C: np.ndarray, n: int, labels_N: np.ndarray) -> dict[str, int]:
    counts = {
        "classes_without_positives": int((positives_C == 0).sum()),
        "classes_without_negatives": int((positives_C == n).sum()),
        "clips_without_labels": int((labels_N == 0).sum()),
    }
    return {name: count for name, count in counts.items() if count}
