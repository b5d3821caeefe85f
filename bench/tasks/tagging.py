"""Multi-label tagging: macro mAP, mean AUC, d', lwlrap (AudioSet, FSD50K; docs/protocols.md, sections 1, 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.tasks.base import ClassScores, Evaluation, EvaluationError, MetricInfo, Statistic
from bench.tasks.metrics import (
    Floats,
    Rankings,
    average_precision,
    dprime,
    label_precision,
    macro,
    random_average_precision,
    unbiased_interval,
)
from bench.tasks.predictions import Predictions
from datamodules.boards import Tagging


class TaggingTask(ClassScores[Tagging]):
    """Macro means leave out, and the notes count, the classes that no clip has (AUC: or that all clips have).

    d' is that of the mean AUC (AST, PANNs), the mean d' that of each class's (VATT `measures.py`).
    """

    metrics: ClassVar[dict[str, MetricInfo]] = {
        "mAP": MetricInfo("mAP", percent=True),
        "AUC": MetricInfo("AUC", decimals=3),
        "dprime": MetricInfo("d′", decimals=2, lowest=-math.inf, highest=math.inf),
        "mean_dprime": MetricInfo("mean d′", decimals=2, lowest=-math.inf, highest=math.inf),
        "lwlrap": MetricInfo("lwlrap", percent=True),
    }
    rule = "Means over classes leave out classes without positives among the scored clips; a remark counts them."
    class_score = "average precision"

    def evaluate(self, modality: str, predictions: Predictions) -> Evaluation:
        """As for all tasks; an error if nothing can be ranked."""
        target_NC = predictions.target > 0
        n, positives_C = len(target_NC), target_NC.sum(0)
        if not positives_C.any():
            raise EvaluationError(f"{self.board.name}: none of the {n} clips has a label")
        if not ((positives_C > 0) & (positives_C < n)).any():
            raise EvaluationError(
                f"{self.board.name}: every class has all or none of the {n} clips; nothing can be ranked"
            )
        return super().evaluate(modality, predictions)

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over clips."""
        target_NC, score_NC = predictions.target > 0, predictions.scores[modality]
        rankings = Rankings(target_NC, score_NC)
        precision_N, labels_N = label_precision(target_NC, score_NC)

        def measure(weight_NB: Floats) -> dict[str, Floats]:
            ap_BC, auc_BC = rankings.measure(weight_NB)
            auc_B = macro(auc_BC)
            with np.errstate(invalid="ignore"):  # a resample without any label
                lwlrap_B = (precision_N @ weight_NB) / (labels_N @ weight_NB)
            return {
                "mAP": macro(ap_BC),
                "AUC": auc_B,
                "dprime": dprime(auc_B),
                "mean_dprime": macro(dprime(auc_BC)),
                "lwlrap": lwlrap_B,
            }

        return Statistic(np.asarray(predictions.clip_id), measure, unbiased_interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What clips, or for lwlrap classes, in random order get."""
        target_NC = predictions.target > 0
        n, classes = target_NC.shape
        labels_N = target_NC.sum(1).astype(np.float64)
        return {
            "mAP": float(np.nanmean(random_average_precision(target_NC.sum(0), n))),
            "AUC": 0.5,
            "dprime": 0.0,
            "mean_dprime": 0.0,
            "lwlrap": float(np.nansum(labels_N * random_average_precision(labels_N, classes)) / labels_N.sum()),
        }

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        """What is left out."""
        target_NC = predictions.target > 0
        positives_C = target_NC.sum(0)
        return {
            "classes_without_positives": int((positives_C == 0).sum()),
            "classes_without_negatives": int((positives_C == len(target_NC)).sum()),
            "clips_without_labels": int((target_NC.sum(1) == 0).sum()),
        }

    def by_class(self, modality: str, predictions: Predictions) -> NDArray[np.floating]:
        """[C] average precision."""
        return average_precision(predictions.target > 0, predictions.scores[modality])

    def probability(self, logits: NDArray[np.floating]) -> NDArray[np.floating]:
        """A sigmoid a class."""
        from scipy.special import expit

        probability_NC: NDArray[np.floating] = expit(logits)
        return probability_NC

    def mean_logits(self, logits: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Of a sigmoid a class."""
        from scipy.special import log_expit, logsumexp

        yes, no = ([log_expit(sign * each) for each in logits] for sign in (1, -1))
        return np.asarray(logsumexp(yes, axis=0) - logsumexp(no, axis=0))
