"""Retrieval between modalities: R@1, R@5, R@10, median and mean rank (docs/protocols.md, rule 6).

Where items tie, R@k is the share of queries that is expected to find a right one in random order of the tied items, and
median and mean rank are those of averaged ranks; so a collapsed embedding gets what chance gets.

Each embedding of one modality asks for the same clip's embedding of the other among all clips of the board. Where a
clip has several captions (rows of one group), those with text in them differ from row to row, and the others are the
same clip read again, of which the first by id stands for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.tasks.base import Embeddings, EvaluationError, MetricInfo, Statistic
from bench.tasks.metrics import Floats, interval
from bench.tasks.predictions import Predictions
from bench.tasks.ties import Ranks
from datamodules.boards import Retrieval
from datamodules.types import Similarity

if TYPE_CHECKING:
    from datamodules.manifest.build import Manifest

CUTS = (1, 5, 10)


class _Asked(NamedTuple):
    """Which rows are asked with, and which are found."""

    query: NDArray[np.intp]
    gallery: NDArray[np.intp]
    group_Q: NDArray[np.str_]
    group_G: NDArray[np.str_]
    """Of the gallery's items."""
    missing: int
    """Queries that are not there and count as not found."""


class RetrievalTask(Embeddings[Retrieval]):
    """The intervals are over what was asked for, all captions of a clip together; the gallery stays whole, as a smaller
    one would be easier."""

    metrics: ClassVar[dict[str, MetricInfo]] = {
        "R@1": MetricInfo("R@1", percent=True),
        "R@5": MetricInfo("R@5", percent=True),
        "R@10": MetricInfo("R@10", percent=True),
        "MedR": MetricInfo("MedR", better="lower", lowest=1.0, highest=math.inf),
        "MeanR": MetricInfo("MeanR", better="lower", lowest=1.0, highest=math.inf),
    }
    rule = "Ties: R@k is the expected share over orders of the tied items; median and mean rank are averaged."

    @property
    def title(self) -> str:
        return f"{self.options.name} {self.options.query} → {self.options.gallery}"

    @property
    def unit(self) -> str:
        return "videos" if self.options.unit == "video" else "clips"

    def hub_name(self, modality: str) -> str:
        return "text-to-video-retrieval"

    def groups(self, table: pd.DataFrame, clip_id: Sequence[str]) -> NDArray[np.str_]:
        """The video, or the segment, which several sentences may share."""
        if self.options.unit == "video":
            group = table["video_id"]
        else:
            group = table.groupby(["video_id", "start", "end"])["clip_id"].transform("first")
        named: NDArray[np.str_] = group.to_numpy(str)[pd.Index(table["clip_id"]).get_indexer(clip_id)]
        return named

    def scored_modalities(self, modality: str) -> tuple[str, ...]:
        """Those of the board, whatever the stage looks at."""
        return (self.options.query, self.options.gallery)

    def described(self, predictions: Predictions, scored: Manifest, similarity: Similarity) -> Predictions:
        """Also how many clips are missing."""
        missing = scored.official - len(predictions.clip_id)
        return replace(super().described(predictions, scored, similarity), missing=missing)

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over what is asked for: clips with all their captions, or videos. Queries that are missing are never found;
        median and mean rank are without them."""
        asked = self._asked(predictions)
        ranks = self._ranks(asked, predictions)
        # Queries that are equal in all three are equal in all that is measured.
        order_Q = np.lexsort((ranks.wrong_Q, ranks.above_Q, ranks.averaged))
        rank_Q = ranks.averaged[order_Q]
        found_KQ = np.stack([ranks.found(cut)[order_Q] for cut in CUTS])
        # Groups are numbered by their best rank: their weights are random, and so the order of the clips does not
        # matter.
        drawn_Q, groups = pd.factorize(asked.group_Q[order_Q])

        def measure(weight_GB: Floats) -> dict[str, Floats]:
            weight_QB, missing_B = weight_GB[drawn_Q], weight_GB[len(groups) :].sum(0, dtype=np.float64)
            total_B = weight_QB.sum(0, dtype=np.float64)
            recall_KB = found_KQ @ weight_QB / (total_B + missing_B)
            return {
                **{f"R@{cut}": recall_B for cut, recall_B in zip(CUTS, recall_KB, strict=True)},
                "MedR": _median(rank_Q, weight_QB) + 1,
                "MeanR": rank_Q @ weight_QB / np.where(total_B > 0, total_B, np.nan) + 1,
            }

        units = np.array([*groups, *(f"missing {number}" for number in range(asked.missing))], dtype=str)
        return Statistic(units, measure, interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What a gallery in random order gets."""
        asked = self._asked(predictions)
        groups, right_g = np.unique(asked.group_G, return_counts=True)
        return _chance(right_g[np.searchsorted(groups, asked.group_Q)], len(asked.group_G), asked.missing)

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        return {"missing_clips_count_as_not_found": self._asked(predictions).missing}

    def count(self, modality: str, predictions: Predictions) -> int:
        """The queries."""
        return len(self._asked(predictions).group_Q)

    def _asked(self, predictions: Predictions) -> _Asked:
        query, gallery, name = self.options.query, self.options.gallery, self.board.name
        self.compared(query, gallery, predictions)
        missing = predictions.missing if self.options.missing == "misses" else 0
        if self.options.unit == "video":
            if predictions.group is None:
                raise EvaluationError(f"{name} asks for videos; the predictions do not say which clip is of which")
            if missing:
                raise EvaluationError(f"{name}: clips that are not there cannot be missed where videos are asked for")
            videos, rows = np.unique(predictions.group), np.arange(len(predictions.group))
            return _Asked(rows, rows, videos, videos, missing)
        group_N = np.asarray(predictions.clip_id if predictions.group is None else predictions.group)
        queries, items = _rows(query, group_N), _rows(gallery, group_N)
        return _Asked(queries, items, group_N[queries], group_N[items], missing)

    def _ranks(self, asked: _Asked, predictions: Predictions) -> Ranks:
        from bench.tasks.ranks import retrieval_ranks, video_ranks  # they import torch, which tables do without

        query_ND, gallery_ND = (predictions.scores[each] for each in (self.options.query, self.options.gallery))
        if self.options.unit == "video":
            assert predictions.group is not None
            return video_ranks(query_ND, gallery_ND, predictions.group, predictions.similarity)
        return retrieval_ranks(
            query_ND[asked.query], gallery_ND[asked.gallery], asked.group_Q, asked.group_G, predictions.similarity
        )


def _rows(modality: str, group_N: NDArray[np.str_]) -> NDArray[np.intp]:
    """The rows that differ: all of text, the first of each group otherwise."""
    return np.arange(len(group_N)) if "t" in modality else np.sort(np.unique(group_N, return_index=True)[1])


def _median(rank_N: Floats, weight_NB: Floats) -> Floats:
    """[B] medians of sorted ranks that occur `weight_NB` (whole numbers) times: the mean of the two in the middle."""
    through_NB = weight_NB.cumsum(0, dtype=np.float64)
    total_B = through_NB[-1]
    lower_B, upper_B = ((through_NB <= middle_B).sum(0) for middle_B in ((total_B - 1) // 2, total_B // 2))
    median_B: Floats = (rank_N[lower_B] + rank_N[upper_B]) / 2
    return median_B


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
