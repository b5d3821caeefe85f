"""Nearest neighbours: clips are compared with those of the training split, and the nearest ones should be of their
class. R@k is the share of clips that have one of their class among the k nearest (retrieval of actions; as
scikit-learn's `NearestNeighbors` has them).

Embeddings of a clip's views are averaged first, those of the training clips likewise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.tasks.base import EvaluationError, MetricInfo, Statistic, Task
from bench.tasks.metrics import Floats, interval
from bench.tasks.predictions import Predictions
from bench.tasks.ties import Ranks
from datamodules.boards import Neighbours
from datamodules.types import Similarity

CUTS = (1, 5, 10, 20, 50)
COLUMNS = 5
"""Of a clip's scores once it was compared: how many training clips are nearer than the nearest of its class; how many
of other classes, and of its own, are as near as that; how many are of its class; how many there are."""


class NeighboursTask(Task[Neighbours]):
    """What is stored and measured is where the nearest clips of the right class lie, not the embeddings."""

    metrics: ClassVar[dict[str, MetricInfo]] = {f"near@{cut}": MetricInfo(f"R@{cut}", percent=True) for cut in CUTS}
    rule = "Ties: R@k is the expected share over orders of training clips that are equally near."
    outputs = ("embedding",)
    searches_training = True

    @property
    def title(self) -> str:
        return "nearest neighbours among the training clips"

    def searched(self, predictions: Predictions, gallery: Predictions) -> Predictions:
        """`scores` become the numbers of `COLUMNS`."""
        both = np.intersect1d(np.asarray(predictions.clip_id, str), np.asarray(gallery.clip_id, str))
        if len(both):
            raise EvaluationError(f"{self.board.name}: {len(both)} clips would find themselves, the first is {both[0]}")
        class_Q, class_N = self._classes(predictions), self._classes(gallery)
        found = {}
        for modality, score in predictions.scores.items():
            items_ND = gallery.scores[modality]
            for each, of in ((score, predictions), (items_ND, gallery)):
                self.require_finite(f"embeddings of {modality!r}", each, np.asarray(of.clip_id))
            found[modality] = compared_with(class_Q, score, class_N, items_ND, predictions.similarity)
        return replace(predictions, scores=found)

    def _classes(self, predictions: Predictions) -> NDArray[np.intp]:
        target_NC = np.asarray(predictions.target) > 0
        if (target_NC.sum(1) != 1).any():
            raise EvaluationError(f"{self.board.name}: neighbours are of one class each; clips have several or none")
        classes: NDArray[np.intp] = target_NC.argmax(1)
        return classes

    def check_scores(self, modality: str, score: Floats, predictions: Predictions) -> None:
        if score.shape != (len(predictions.target), COLUMNS):
            self.refuse_shape(modality, score, predictions)
        self.require_finite(f"scores of {modality!r}", score, np.asarray(predictions.clip_id))

    def statistic(self, modality: str, predictions: Predictions) -> Statistic:
        """Over clips; the training clips stay all the same."""
        above_N, wrong_N, right_N, own_N, _ = predictions.scores[modality].astype(np.intp).T
        ranks = Ranks(above_N, wrong_N, np.maximum(right_N, 1))
        found_KN = np.stack([np.where(own_N > 0, ranks.found(cut), 0.0) for cut in CUTS])

        def measure(weight_NB: Floats) -> dict[str, Floats]:
            share_KB = found_KN @ weight_NB / weight_NB.sum(0, dtype=np.float64)
            return dict(zip(self.metrics, share_KB, strict=True))

        return Statistic(np.asarray(predictions.clip_id), measure, interval)

    def chance(self, modality: str, predictions: Predictions) -> dict[str, float]:
        """What training clips in random order get."""
        *_, own_N, items_N = predictions.scores[modality].astype(np.intp).T
        random = Ranks(np.zeros_like(own_N), items_N - own_N, np.maximum(own_N, 1))
        found = [np.where(own_N > 0, random.found(cut), 0.0).mean() for cut in CUTS]
        return {name: float(value) for name, value in zip(self.metrics, found, strict=True)}

    def notes(self, modality: str, predictions: Predictions) -> dict[str, int]:
        own_N, items_N = predictions.scores[modality].astype(np.intp).T[-2:]
        alone = int((own_N == 0).sum())
        return {"training_clips_searched": int(items_N.max()), "of_a_class_without_training_clips": alone}


def compared_with(
    class_Q: NDArray[np.intp], query_QD: Floats, class_N: NDArray[np.intp], item_ND: Floats, similarity: Similarity
) -> NDArray[np.float64]:
    """[Q, COLUMNS] how the items stand to each query."""
    from bench.tasks.ranks import retrieval_ranks  # it imports torch, which tables do without

    own_Q = np.bincount(class_N, minlength=class_Q.max() + 1)[class_Q]
    known_Q, found_Q3 = own_Q > 0, np.zeros((len(class_Q), 3))
    if known_Q.any():
        ranks = retrieval_ranks(query_QD[known_Q], item_ND, class_Q[known_Q], class_N, similarity)
        found_Q3[known_Q] = np.stack(ranks, axis=1)
    return np.column_stack([found_Q3, own_Q, np.full(len(class_Q), len(class_N))])
