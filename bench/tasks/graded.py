"""Graded retrieval: nDCG@30 with gains by what classes have to do with each other (docs/protocols.md, section 10).

Every clip asks once. What an item is worth to it is r, the greatest relevance between a class of the one and a class of
the other; its gain is 2 ** r - 1, divided by log2(rank + 1). The sum over the first 30 is divided by that of the best
order of the whole gallery. Where items tie, each has the gain that is expected of a random one of them, as
scikit-learn's `ndcg_score` has it; so a collapsed embedding gets what chance gets.

Suffixes: Q queries, N items, K of the first, C classes, D dimensions; b a block of queries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.tasks.base import Embeddings, EvaluationError, MetricInfo, Statistic
from bench.tasks.metrics import Floats, interval
from bench.tasks.predictions import ABOUT, Predictions
from datamodules.boards import Board, GradedRetrieval
from datamodules.types import Similarity

if TYPE_CHECKING:
    from datamodules.manifest.build import Manifest

CUT = 30
QUERIES = 256
"""Whose similarities are in memory at a time."""


@dataclass
class GradedPredictions(Predictions):
    """Embeddings with what the classes of the target are worth to each other."""

    relevance: Sequence[Sequence[int]] | NDArray[np.integer] = ()
    """[C, C], from 0 on."""

    def to_table(self) -> pa.Table:
        table = super().to_table()
        about = json.loads(table.schema.metadata[ABOUT]) | {"relevance": np.asarray(self.relevance).tolist()}
        return table.replace_schema_metadata({ABOUT: json.dumps(about, sort_keys=True)})


class _GradedQueries(NamedTuple):
    """The queries that can find anything."""

    places: NDArray[np.intp]
    best_Q: Floats
    """What the best order of the gallery gets."""
    mean_Q: Floats
    """The mean gain of what each may find."""


class GradedTask(Embeddings[GradedRetrieval]):
    """The intervals are over queries; the gallery stays whole."""

    metrics: ClassVar[dict[str, MetricInfo]] = {"nDCG@30": MetricInfo("nDCG@30", percent=True)}
    rule = "Tied items have the gain that is expected of a random one of them. Within a modality no clip finds itself."
    predictions = GradedPredictions

    def __init__(self, board: Board):
        super().__init__(board)
        self._known: tuple[Predictions, _GradedQueries] | None = None

    def hub_name(self, modality: str) -> str:
        return "feature-extraction"

    def scored_modalities(self, modality: str) -> tuple[str, ...]:
        """Those of the board, whatever the stage looks at."""
        return (self.options.query, self.options.gallery)

    def described(self, predictions: Predictions, scored: Manifest, similarity: Similarity) -> Predictions:
        """Also what classes are worth to each other."""
        if scored.relevance is None:
            raise EvaluationError(
                f"{self.board.name}: {self.board.dataset} does not say what its classes are worth to each other; its "
                f"class_relevance() must"
            )
        described = super().described(predictions, scored, similarity)
        assert isinstance(described, GradedPredictions)
        return replace(described, relevance=scored.relevance)

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over the queries to which something is worth something."""
        asked = self._asked(predictions)
        query_ND, gallery_ND = self.compared(self.options.query, self.options.gallery, predictions)
        ranked = zip(self._gains(predictions), similarities(query_ND, gallery_ND, predictions.similarity), strict=True)
        found_Q = np.array([gain_of_first(gain_N, self._others(row, score_N)) for (row, gain_N), score_N in ranked])
        value_Q = found_Q[asked.places] / asked.best_Q

        def measure(weight_QB: Floats) -> dict[str, Floats]:
            return {self._metric: value_Q @ weight_QB / weight_QB.sum(0, dtype=np.float64)}

        return Statistic(np.asarray(predictions.clip_id)[asked.places], measure, interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What a gallery in random order gets."""
        asked = self._asked(predictions)
        first = discounts(len(predictions.clip_id) - self._within)[-1]
        return {self._metric: float(np.mean(first * asked.mean_Q / asked.best_Q))}

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        return {"clips_to_which_none_is_relevant": len(predictions.clip_id) - self.count(modality, predictions)}

    def count(self, modality: str, predictions: Predictions) -> int:
        """The queries."""
        return len(self._asked(predictions).places)

    @property
    def _metric(self) -> str:
        (name,) = self.metrics
        return name

    @property
    def _within(self) -> bool:
        """Whether a clip is searched among its like, and is left out itself."""
        return self.options.query == self.options.gallery

    def _others(self, row: int, values_N: Floats) -> Floats:
        """[N], or without the clip itself [N - 1]."""
        return np.delete(values_N, row) if self._within else values_N

    def _gains(self, predictions: Predictions) -> Iterator[tuple[int, Floats]]:
        """Each query's place, and the gain of each item that it may find."""
        assert isinstance(predictions, GradedPredictions)
        present_NC = predictions.target > 0
        relevance_CC = np.asarray(predictions.relevance, np.int32)
        if relevance_CC.shape != (present_NC.shape[1],) * 2:
            raise EvaluationError(
                f"{self.board.name}: relevance {relevance_CC.shape} of {present_NC.shape[1]} classes; expected [C, C]"
            )
        worth_CN = np.zeros((len(relevance_CC), len(present_NC)), relevance_CC.dtype)
        for of_class_N, relevance_C in zip(present_NC.T, relevance_CC.T, strict=True):
            worth_CN[:, of_class_N] = np.maximum(worth_CN[:, of_class_N], relevance_C[:, None])
        for row, present_C in enumerate(present_NC):
            yield row, self._others(row, np.ldexp(1.0, worth_CN[present_C].max(0, initial=0)) - 1)

    def _asked(self, predictions: Predictions) -> _GradedQueries:
        """The queries that can find anything; of the same predictions as the last time it is known."""
        if self._known is None or self._known[0] is not predictions:
            gains = ((ideal(gain_N), gain_N.mean()) for _, gain_N in self._gains(predictions))
            best_Q, mean_Q = np.array(list(gains)).T
            places = np.flatnonzero(best_Q > 0)
            if not len(places):
                raise EvaluationError(f"{self.board.name}: to none of {len(best_Q)} clips another one is relevant")
            self._known = predictions, _GradedQueries(places, best_Q[places], mean_Q[places])
        return self._known[1]


class ClassRetrievalTask(GradedTask):
    """Graded by nothing but whether clips have a class in common, whatever the dataset says of its classes."""

    metrics: ClassVar[dict[str, MetricInfo]] = {"class_nDCG@30": MetricInfo("nDCG@30 by class", percent=True)}

    def described(self, predictions: Predictions, scored: Manifest, similarity: Similarity) -> Predictions:
        same = np.eye(len(scored.classes), dtype=np.int_)
        return super().described(predictions, replace(scored, relevance=same), similarity)


def discounts(items: int) -> Floats:
    """[K + 1] the sum of the discounts 1 / log2(rank + 1) of the first 0, 1, …, K of so many items."""
    through_K: Floats = np.r_[0, (1 / np.log2(np.arange(2, min(CUT, items) + 2))).cumsum()]
    return through_K


def gain_of_first(gain_N: Floats, score_N: Floats) -> float:
    """The discounted gain of the first K by score, each of tied ones having their mean gain."""
    through_K = discounts(len(gain_N))
    first = len(through_K) - 1
    if not first:
        return 0.0
    least = np.partition(score_N, len(score_N) - first)[-first]
    candidate = score_N >= least
    _, tie, size = np.unique(-score_N[candidate], return_inverse=True, return_counts=True)
    end = np.minimum(size.cumsum(), first)
    discount = through_K[end] - through_K[np.r_[0, end[:-1]]]
    return float(np.bincount(tie, gain_N[candidate]) / size @ discount)


def ideal(gain_N: Floats) -> float:
    """The discounted gain of the first K in the best order."""
    discount_K = np.diff(discounts(len(gain_N)))
    first = len(discount_K)
    return float(np.sort(np.partition(gain_N, len(gain_N) - first)[-first:])[::-1] @ discount_K) if first else 0.0


def similarities(query_QD: Floats, gallery_ND: Floats, similarity: Similarity) -> Iterator[Floats]:
    """[N] of each query, float64 products of float32 vectors; equal items tie exactly."""
    from bench.tasks.ranks import comparable, distinct  # they import torch, which tables do without

    query_QD, gallery_ND = comparable(query_QD, similarity), comparable(gallery_ND, similarity)
    distinct_UD, place_N, _ = distinct(gallery_ND)
    transposed_DU = distinct_UD.astype(np.float64).T
    for start in range(0, len(query_QD), QUERIES):
        yield from (query_QD[start : start + QUERIES].astype(np.float64) @ transposed_DU)[:, place_N]
