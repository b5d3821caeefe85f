"""Retrieval between modalities: R@1, R@5, R@10, median and mean rank (PROTOCOLS.md rule 6).

Each clip's embedding of one modality asks for the same clip's embedding of the other among all clips of the board.
"""

from __future__ import annotations

import numpy as np

from bench.metrics import Floats, bootstrap, retrieval_ranks
from bench.tasks import Evaluation, EvaluationError, Predictions, as_metrics
from datamodules.types import Board

CUTS = (1, 5, 10)


def evaluate(board: Board, modality: str, predictions: Predictions) -> Evaluation:
    """The intervals are over the queries; the gallery stays whole, as a smaller one would be easier."""
    del modality  # the board's query and gallery say what is compared
    query_ND, gallery_ND = predictions.scores[board.query], predictions.scores[board.gallery]
    if query_ND.shape != gallery_ND.shape:
        raise EvaluationError(
            f"{board.name}: embeddings {query_ND.shape} of {board.query!r} and {gallery_ND.shape} of "
            f"{board.gallery!r} cannot be compared"
        )
    n = len(query_ND)
    rank_N = np.sort(retrieval_ranks(query_ND, gallery_ND))
    hit_KN = rank_N < np.array(CUTS)[:, None]

    def statistic(weight_NB: Floats) -> dict[str, Floats]:
        total_B = weight_NB.sum(0, dtype=np.float64)
        recall_KB = hit_KN @ weight_NB / total_B
        return {
            **{f"R@{cut}": recall_B for cut, recall_B in zip(CUTS, recall_KB, strict=True)},
            "MedR": _median(rank_N, weight_NB) + 1,
            "MeanR": rank_N @ weight_NB / total_B + 1,
        }

    return Evaluation(
        metrics=as_metrics(bootstrap(statistic, n)),
        n=n,
        chance={**{f"R@{cut}": min(1.0, cut / n) for cut in CUTS}, "MedR": (n + 1) / 2, "MeanR": (n + 1) / 2},
    )


def _median(rank_N: Floats, weight_NB: Floats) -> Floats:
    """[B] medians of sorted ranks that occur `weight_NB` (whole numbers) times: the mean of the two in the middle."""
    through_NB = weight_NB.cumsum(0, dtype=np.float64)
    total_B = through_NB[-1]
    lower_B, upper_B = ((through_NB <= middle_B).sum(0) for middle_B in ((total_B - 1) // 2, total_B // 2))
    return (rank_N[lower_B] + rank_N[upper_B]) / 2
