"""A made-up board of retrieval and predictions for it."""

from __future__ import annotations

import numpy as np

from bench.tasks import Evaluation, Predictions
from datamodules.boards import Board, Retrieval


def board(query: str = "a", gallery: str = "v", **changes: object) -> Board:
    return Board("pairs", "world", "none", "test", Retrieval(query, gallery, **changes), "R@1")


def predictions(scores: dict[str, np.ndarray], **changes: object) -> Predictions:
    n = len(next(iter(scores.values())))
    return Predictions([f"{i:05}" for i in range(n)], np.ones((n, 1)), scores, **changes)


def values(evaluation: Evaluation) -> dict[str, float]:
    return {name: metric.value for name, metric in evaluation.metrics.items()}
