"""Audio-visual correspondence: what is right, and what must stand beside a clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.tasks import EvaluationError, Predictions, evaluate, task_of
from datamodules.boards import Board, Correspondence

BOARD = Board("b", "world", "none", "test", Correspondence(), "accuracy")


def accuracy(logits: list[list[float]]) -> float:
    target = np.tile(np.array([[1, 0]], np.float32), (len(logits), 1))
    given = Predictions([f"{i}" for i in range(len(logits))], target, {"av": np.array(logits)})
    return evaluate(BOARD, "av", given).metrics["accuracy"].value


def test_a_pair_is_right_by_the_sign_of_its_logit_and_half_right_at_zero():
    assert accuracy([[2, -1], [0.1, -3]]) == 1
    assert accuracy([[2, 1], [-0.1, -3]]) == 0.5, "the same said of both is right once"
    assert accuracy([[-2, 1], [0, 0]]) == 0.25


def test_the_target_is_that_the_clips_own_sound_belongs_to_it():
    batch = {"label": torch.zeros(3, 5), "clip_id": ["x", "y", "z"], "other_there": torch.ones(3, dtype=torch.bool)}
    assert task_of(BOARD).target(batch).tolist() == [[1, 0]] * 3


def test_clips_beside_which_none_stands_are_refused():
    task, batch = task_of(BOARD), {"label": torch.zeros(2, 5), "clip_id": ["x", "y"]}
    with pytest.raises(
        EvaluationError, match=r"b: nothing stands beside the clips; set data.inputs.rows.other=\{which:"
    ):
        task.target(batch)
    with pytest.raises(EvaluationError, match="b: there is no clip of another video for y"):
        task.target({**batch, "other_there": torch.tensor([True, False])})
