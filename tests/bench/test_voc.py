"""PASCAL VOC 2007's average precision against its devkit's rule and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from bench.tasks import evaluate, statistic, task_of
from bench.tasks.voc import PartlyJudged
from datamodules.boards import Board, VOCTagging

BOARD = Board("voc", "world", "train", "test", VOCTagging(), "mAP11")


def devkit(truth: np.ndarray, score: np.ndarray) -> float:
    """What `VOCevalcls.m` says of one class, whose truth is 1, -1, or 0 where it is only seen with difficulty."""
    order = np.argsort(-score)
    right, wrong = (truth[order] > 0).cumsum(), (truth[order] < 0).cumsum()
    recall, precision = right / (truth > 0).sum(), right / np.maximum(right + wrong, 1)
    levels = [level / 10 for level in range(11)]
    return float(np.mean([max(precision[recall >= level - 1e-12], default=0) for level in levels]))


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """(truth, score), [N, C]."""
    rng = np.random.default_rng(0)
    truth = rng.choice([1, -1, 0], p=[0.3, 0.6, 0.1], size=(90, 5))
    return truth, rng.normal(size=truth.shape) + truth


def predicted(truth: np.ndarray, score: np.ndarray) -> PartlyJudged:
    ignored = [np.flatnonzero(row == 0).tolist() for row in truth]
    names = [f"{number:06}" for number in range(len(truth))]
    return PartlyJudged(names, (truth > 0).astype(np.float32), {"i": score}, ignored=ignored)


def test_it_is_the_devkits_mean_at_11_recalls_and_beside_it_the_area(drawn):
    truth, score = drawn
    found = evaluate(BOARD, "i", predicted(truth, score))
    each = [devkit(*of_class) for of_class in zip(truth.T, score.T, strict=True)]
    assert found.metrics["mAP11"].value == pytest.approx(np.mean(each), abs=1e-12)
    areas = [average_precision_score(t[t != 0] > 0, s[t != 0]) for t, s in zip(truth.T, score.T, strict=True)]
    assert found.metrics["mAP"].value == pytest.approx(np.mean(areas), abs=1e-12)
    assert found.notes["seen_with_difficulty"] == (truth == 0).sum()
    by_class = task_of(BOARD).by_class("i", predicted(truth, score))
    np.testing.assert_allclose(by_class, each, atol=1e-12)


def test_what_is_seen_with_difficulty_is_neither_right_nor_wrong(drawn):
    truth, score = drawn
    changed = np.where(truth == 0, 100.0, score)
    assert evaluate(BOARD, "i", predicted(truth, changed)) == evaluate(BOARD, "i", predicted(truth, score))
    as_absent = replace(predicted(truth, changed), ignored=[[]] * len(truth))
    assert evaluate(BOARD, "i", as_absent).metrics["mAP11"].value < 0.9 * devkit(truth[:, 0], score[:, 0])


def test_a_weight_is_a_picture_that_stands_there_as_often(drawn):
    truth, score = drawn
    weight = np.random.default_rng(1).integers(0, 3, size=len(truth))
    found = statistic(BOARD, "i", predicted(truth, score)).measure(weight[:, None].astype(float))
    often = predicted(truth.repeat(weight, 0), score.repeat(weight, 0))
    for name, value in evaluate(BOARD, "i", often).metrics.items():
        assert found[name][0] == pytest.approx(value.value, abs=1e-12)


def test_tied_pictures_are_one_threshold():
    truth = np.array([[1], [-1], [-1], [-1]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        found = evaluate(BOARD, "i", predicted(np.tile(truth[order], (2, 1)), np.zeros((8, 1))))
        assert found.metrics["mAP11"].value == found.metrics["mAP"].value == 0.25
