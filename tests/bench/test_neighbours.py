"""Nearest neighbours among the training clips, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from bench.tasks import EvaluationError, Predictions, evaluate, task_of
from bench.tasks.neighbours import CUTS
from datamodules.boards import Board, Neighbours

BOARD = Board("b", "world", "train", "test", Neighbours(), "near@1")
CLASSES = 7


def clips(name: str, embedding: np.ndarray, label: np.ndarray) -> Predictions:
    ids = [f"{name}{number:03}" for number in range(len(label))]
    return Predictions(ids, np.eye(CLASSES, dtype=np.float32)[label], {"v": embedding})


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_those_of_scikit_learn_s_neighbours(seed: int):
    rng = np.random.default_rng(seed)
    label, of_training = rng.integers(CLASSES, size=50), rng.integers(CLASSES - 1, size=120)  # none of the last class
    embedding = rng.normal(size=(50, 5)) + 0.4 * np.eye(CLASSES)[label][:, :5]
    theirs = rng.normal(size=(120, 5)) + 0.4 * np.eye(CLASSES)[of_training][:, :5]
    found = task_of(BOARD).searched(clips("test", embedding, label), clips("train", theirs, of_training))
    evaluation = evaluate(BOARD, "v", found)
    nearest = NearestNeighbors(n_neighbors=max(CUTS), metric="cosine").fit(theirs).kneighbors(embedding)[1]
    for cut in CUTS:
        hits = (of_training[nearest[:, :cut]] == label[:, None]).any(1)
        assert evaluation.metrics[f"near@{cut}"].value == pytest.approx(hits.mean(), abs=1e-12)
    assert evaluation.notes == {
        "training_clips_searched": 120,
        "of_a_class_without_training_clips": int((label == CLASSES - 1).sum()),
    }


def test_a_network_that_gives_the_same_for_all_gets_what_chance_gets():
    label, of_training = np.arange(20) % CLASSES, np.arange(60) % CLASSES
    same = task_of(BOARD).searched(
        clips("test", np.ones((20, 4)), label), clips("train", np.ones((60, 4)), of_training)
    )
    evaluation = evaluate(BOARD, "v", same)
    assert {name: metric.value for name, metric in evaluation.metrics.items()} == pytest.approx(evaluation.chance)
    assert 0.1 < evaluation.chance["near@1"] < 0.2


def test_what_cannot_be_compared_is_named():
    one, other = clips("a", np.ones((3, 2)), np.zeros(3, int)), clips("b", np.ones((3, 2)), np.zeros(3, int))
    with pytest.raises(EvaluationError, match="3 clips would find themselves, the first is a000"):
        task_of(BOARD).searched(one, one)
    other.scores["v"][1] = np.nan
    with pytest.raises(EvaluationError, match=r"embeddings of 'v' are NaN or infinite for 1 clip \(b001\)"):
        task_of(BOARD).searched(one, other)
    other.target[0] = 1
    with pytest.raises(EvaluationError, match="clips have several or none"):
        task_of(BOARD).searched(one, other)
    with pytest.raises(EvaluationError, match="do not fit"):
        evaluate(BOARD, "v", one)
