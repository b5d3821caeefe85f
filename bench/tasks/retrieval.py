"""Retrieval between modalities: R@1, R@5, R@10, median and mean rank (docs/protocols.md, rule 6).

Where items tie, R@k is the share of queries that is expected to find a right one in random order of the tied items, and
median and mean rank are those of averaged ranks; so a collapsed embedding gets what chance gets.

Each embedding of one modality asks for the same clip's embedding of the other among all clips of the board. Where a
clip has several captions (rows of one group), those with text in them differ from row to row, and the others are the
same clip read again, of which the first by id stands for all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.tasks import Evaluation, EvaluationError, Predictions, Statistic, as_metrics
from bench.tasks.metrics import Floats, bootstrap, interval
from bench.tasks.ranks import retrieval_ranks, video_ranks
from bench.tasks.ties import Ranks
from datamodules.types import Board

CUTS = (1, 5, 10)


def evaluate(board: Board, modality: str, predictions: Predictions) -> Evaluation:
    """The intervals are over what was asked for, all captions of a clip together; the gallery stays whole, as a smaller
    one would be easier."""
    del modality  # the board's query and gallery say what is compared
    ranked = _rank(board, predictions)
    statistic, missing = _statistic(ranked), ranked.missing
    groups, right_g = np.unique(ranked.group_G, return_counts=True)
    right_Q = right_g[np.searchsorted(groups, ranked.group_Q)]
    return Evaluation(
        metrics=as_metrics(bootstrap(statistic.measure, len(statistic.units))),
        n=len(ranked.group_Q),
        chance=_chance(right_Q, len(ranked.group_G), missing),
        notes={"missing_clips_count_as_not_found": missing} if missing else {},
    )


def statistic(board: Board, modality: str, predictions: Predictions) -> Statistic:
    """Over what is asked for: clips with all their captions, or videos."""
    del modality
    return _statistic(_rank(board, predictions))


class _Ranked(NamedTuple):
    ranks: Ranks
    group_Q: NDArray[np.str_]
    group_G: NDArray[np.str_]
    """Of the gallery's items."""
    missing: int
    """Queries that are not there and count as not found."""


def _rank(board: Board, predictions: Predictions) -> _Ranked:
    query_ND, gallery_ND = predictions.scores[board.query], predictions.scores[board.gallery]
    if query_ND.shape != gallery_ND.shape:
        raise EvaluationError(
            f"{board.name}: embeddings {query_ND.shape} of {board.query!r} and {gallery_ND.shape} of "
            f"{board.gallery!r} cannot be compared"
        )
    missing = predictions.missing if board.missing == "misses" else 0
    if board.unit == "video":
        if predictions.group is None:
            raise EvaluationError(f"{board.name} asks for videos; the predictions do not say which clip is of which")
        if missing:
            raise EvaluationError(f"{board.name}: clips that are not there cannot be missed where videos are asked for")
        ranks = video_ranks(query_ND, gallery_ND, predictions.group, predictions.similarity)
        group_Q = group_G = np.unique(predictions.group)
    else:
        group_N = np.asarray(predictions.clip_id if predictions.group is None else predictions.group)
        query, gallery = _rows(board.query, group_N), _rows(board.gallery, group_N)
        group_Q, group_G = group_N[query], group_N[gallery]
        ranks = retrieval_ranks(query_ND[query], gallery_ND[gallery], group_Q, group_G, predictions.similarity)
    return _Ranked(ranks, group_Q, group_G, missing)


def _rows(modality: str, group_N: NDArray) -> NDArray[np.intp]:
    """The rows that differ: all of text, the first of each group otherwise."""
    return np.arange(len(group_N)) if "t" in modality else np.sort(np.unique(group_N, return_index=True)[1])


def _statistic(ranked: _Ranked) -> Statistic:
    """Queries that are missing are never found; median and mean rank are without them."""
    ranks = ranked.ranks
    # Queries that are equal in all three are equal in all that is measured.
    order_Q = np.lexsort((ranks.wrong_Q, ranks.above_Q, ranks.averaged))
    rank_Q = ranks.averaged[order_Q]
    found_KQ = np.stack([ranks.found(cut)[order_Q] for cut in CUTS])
    # Groups are numbered by their best rank: their weights are random, and so the order of the clips does not matter.
    drawn_Q, groups = pd.factorize(ranked.group_Q[order_Q])

    def measure(weight_GB: Floats) -> dict[str, Floats]:
        weight_QB, missing_B = weight_GB[drawn_Q], weight_GB[len(groups) :].sum(0, dtype=np.float64)
        total_B = weight_QB.sum(0, dtype=np.float64)
        recall_KB = found_KQ @ weight_QB / (total_B + missing_B)
        return {
            **{f"R@{cut}": recall_B for cut, recall_B in zip(CUTS, recall_KB, strict=True)},
            "MedR": _median(rank_Q, weight_QB) + 1,
            "MeanR": rank_Q @ weight_QB / np.where(total_B > 0, total_B, np.nan) + 1,
        }

    units = np.array([*groups, *(f"missing {number}" for number in range(ranked.missing))], dtype=str)
    return Statistic(units, measure, interval)


def _median(rank_N: Floats, weight_NB: Floats) -> Floats:
    """[B] medians of sorted ranks that occur `weight_NB` (whole numbers) times: the mean of the two in the middle."""
    through_NB = weight_NB.cumsum(0, dtype=np.float64)
    total_B = through_NB[-1]
    lower_B, upper_B = ((through_NB <= middle_B).sum(0) for middle_B in ((total_B - 1) // 2, total_B // 2))
    return (rank_N[lower_B] + rank_N[upper_B]) / 2


def _chance(right_Q: NDArray[np.intp], items: int, missing: int) -> dict[str, float]:
    """What is expected of a gallery in random order, where `right_Q` of its items are right for each query.

    The first k of N items are all wrong with probability (N - r)/N * (N - r - 1)/(N - 1) * ..., k factors; the mean
    number of wrong ones before the first right one is (N - r)/(r + 1).
    """
    survival_K = np.zeros(items + 1)  # the share of queries whose first k items are all wrong
    for right, queries in zip(*np.unique(right_Q, return_counts=True), strict=True):
        left_K = np.arange(items, 0, -1)
        survival_K += queries / len(right_Q) * np.r_[1, np.cumprod(np.maximum(left_K - right, 0) / left_K)]
    found_K = 1 - survival_K[1:]
    # The mean of the two ranks in the middle, as of a sample's median.
    middle = (np.argmax(found_K > 0.5 - 1e-9) + np.argmax(found_K > 0.5 + 1e-9)) / 2
    present = len(right_Q) / (len(right_Q) + missing)
    return {
        **{f"R@{cut}": present * float(1 - survival_K[min(cut, items)]) for cut in CUTS},
        "MedR": float(middle + 1),
        "MeanR": float(np.mean((items - right_Q) / (right_Q + 1)) + 1),
    }
