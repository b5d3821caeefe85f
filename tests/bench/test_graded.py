"""Graded retrieval, compared with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import ndcg_score

from bench.tasks import EvaluationError, evaluate, statistic, task_of
from bench.tasks.graded import QUERIES, GradedPredictions
from datamodules.boards import Board, ClassRetrieval, GradedRetrieval, graded_boards

ALL = graded_boards("b", ("av", "va", "aa", "vv"), dataset="world", train="none", split="test")


def some(clips: int = 50, classes: int = 7, levels: int = 5, seed: int = 0, whole: bool = False) -> GradedPredictions:
    """Clips of one or several classes; `whole` numbers as embeddings tie often."""
    rng = np.random.default_rng(seed)
    target = np.maximum(np.eye(classes)[rng.integers(classes, size=clips)], rng.random((clips, classes)) < 0.2)
    relevance = rng.integers(levels, size=(classes, classes))
    np.fill_diagonal(relevance, levels)
    draw = (lambda: rng.integers(-1, 2, size=(clips, 3))) if whole else (lambda: rng.normal(size=(clips, 3)))
    scores = {"a": draw().astype(np.float32), "v": draw().astype(np.float32)}
    names = [f"clip{i:04}" for i in range(clips)]
    return GradedPredictions(names, target, scores, similarity="dot", relevance=np.maximum(relevance, relevance.T))


def by_scikit_learn(given: GradedPredictions, query: str, gallery: str) -> float:
    """Relevance by its definition, a pair of clips at a time; their nDCG."""
    labels = [np.flatnonzero(row) for row in given.target]
    relevance = np.asarray(given.relevance)
    values = []
    for row in range(len(labels)):
        others = [i for i in range(len(labels)) if query != gallery or i != row]
        worth = np.array([max(relevance[a, b] for a in labels[row] for b in labels[i]) for i in others])
        score = given.scores[gallery][others].astype(np.float64) @ given.scores[query][row].astype(np.float64)
        values.append(ndcg_score([2.0**worth - 1], [score], k=30))
    return float(np.mean(values))


@pytest.mark.parametrize("board", ALL, ids=lambda board: board.name)
@pytest.mark.parametrize("whole", [False, True])
def test_it_is_scikit_learn_s_mean_ndcg_in_all_four_directions_with_and_without_ties(board: Board, whole: bool):
    given = some(whole=whole)
    expected = by_scikit_learn(given, board.task.query, board.task.gallery)
    assert evaluate(board, "av", given).metrics["nDCG@30"].value == pytest.approx(expected, abs=1e-12)


def test_fewer_clips_than_30_and_more_than_are_in_memory_at_a_time():
    for given in (some(9), some(QUERIES + 3)):
        for board in (ALL[0], ALL[2]):
            expected = by_scikit_learn(given, board.task.query, board.task.gallery)
            assert evaluate(board, "av", given).metrics["nDCG@30"].value == pytest.approx(expected, abs=1e-12)


def test_clips_searched_by_themselves_would_be_found_first():
    """With one-hot embeddings and classes of one clip each, a clip finds nothing but itself, and that does not count;
    its counterpart in the other modality does."""
    names, one_hot = [f"{i:02}" for i in range(40)], np.eye(40, dtype=np.float32)
    relevance = np.where(np.eye(40), 20, 1)
    given = GradedPredictions(names, one_hot, {"a": one_hot, "v": one_hot}, relevance=relevance)
    assert evaluate(ALL[0], "av", given).metrics["nDCG@30"].value > 0.999
    found = evaluate(ALL[2], "av", given)
    assert found.metrics["nDCG@30"].value == pytest.approx(1) == found.chance["nDCG@30"]


@pytest.mark.parametrize("board", [ALL[0], ALL[2]], ids=lambda board: board.name)
def test_a_collapsed_embedding_gets_what_chance_gets(board: Board):
    given = some()
    flat = replace(given, scores={name: np.ones_like(score) for name, score in given.scores.items()})
    found = evaluate(board, "av", flat)
    assert found.metrics["nDCG@30"].value == pytest.approx(found.chance["nDCG@30"])
    assert 0.2 < found.chance["nDCG@30"] < 0.9


def test_gains_grow_exponentially_and_the_best_order_is_that_of_the_whole_gallery():
    """One query's worth 2, and the rest's 0: a relevance of 2 is worth 3, one of 1 is worth 1."""
    names = [f"{i:02}" for i in range(40)]
    target = np.eye(3)[[0] * 38 + [1, 2]]
    relevance = np.array([[2, 1, 0], [1, 2, 0], [0, 0, 2]])
    score = np.arange(40, 0, -1, dtype=np.float32)[:, None]
    given = GradedPredictions(names, target, {"a": score, "v": score}, similarity="dot", relevance=relevance)
    by_clip = statistic(ALL[0], "av", given)
    weight = np.zeros((40, 2))
    weight[38, 0] = weight[39, 1] = 1
    discount = 1 / np.log2(np.arange(2, 32))
    seen = discount.sum() / (3 + discount[1:].sum())  # 30 of those worth 1, and the one that is worth 2 comes late
    np.testing.assert_allclose(by_clip.measure(weight)["nDCG@30"], [seen, 0])


def test_clips_to_which_none_is_relevant_ask_for_nothing_and_are_counted():
    names = [f"{i:02}" for i in range(4)]
    score = np.ones((4, 2), np.float32)
    given = GradedPredictions(names, np.eye(3)[[0, 0, 1, 2]], {"a": score, "v": score}, relevance=np.eye(3))
    found = evaluate(ALL[2], "av", given)
    assert found.n == 2 and found.notes == {"clips_to_which_none_is_relevant": 2}
    with pytest.raises(EvaluationError, match="to none of 4 clips another one is relevant"):
        evaluate(ALL[2], "av", replace(given, target=np.zeros((4, 3))))


def test_relevance_must_be_of_the_classes_and_said_by_the_dataset():
    given = some()
    with pytest.raises(EvaluationError, match=r"relevance \(2, 2\) of 7 classes"):
        evaluate(ALL[0], "av", replace(given, relevance=np.eye(2)))

    class Scored:
        relevance = None

    with pytest.raises(EvaluationError, match="world does not say what its classes are worth to each other"):
        task_of(ALL[0]).described(given, Scored(), "dot")  # type: ignore[arg-type]


def test_where_classes_are_not_graded_a_clip_is_worth_1_to_those_of_its_class():
    (board,) = graded_boards("c", ["aa"], ClassRetrieval, "class_nDCG@30", dataset="world", train="none", split="test")
    given = some()

    @dataclass
    class Scored:
        classes: list[str]
        table: pd.DataFrame | None = None
        steps: dict[str, list[int]] = field(default_factory=dict)
        relevance: np.ndarray | None = None

    found = task_of(board).described(given, Scored([f"{i}" for i in range(7)]), "dot")  # type: ignore[arg-type]
    same = replace(given, relevance=np.eye(7, dtype=int))
    assert evaluate(board, "a", found).metrics["class_nDCG@30"].value == pytest.approx(by_scikit_learn(same, "a", "a"))


def test_a_board_looks_at_each_modality_once():
    assert [board.task.looked_at for board in ALL] == ["av", "va", "a", "v"]
    assert GradedRetrieval("a", "v").protocol() == {"query": "a", "gallery": "v"}
