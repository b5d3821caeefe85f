"""Several networks' predictions as one: the mean of probabilities, against numpy written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench import registry
from bench.tasks import Predictions
from bench.tasks.ensembles import mean_probability

TAGGING, CLASSIFICATION = registry.board("audioset-20k"), registry.board("vggsound")
BOARDS = pytest.mark.parametrize("board", [TAGGING, CLASSIFICATION], ids=lambda board: board.task.name)
CLIPS = ["c", "a", "d", "b"]


def predictions(logits: np.ndarray, clips: list[str] = CLIPS, modality: str = "a") -> Predictions:
    """Each clip has a target of its own, by which it can be identified."""
    target = np.stack([np.full(logits.shape[1], float(ord(clip[0]))) for clip in clips])
    return Predictions(clips, target, {modality: logits})


def probability(board, logits: np.ndarray) -> np.ndarray:
    if board is TAGGING:
        return 1 / (1 + np.exp(-logits))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def some_logits(networks: int, clips: int = len(CLIPS), classes: int = 3):
    return arrays(np.float32, (networks, clips, classes), elements=st.floats(-30, 30, width=32))


@BOARDS
@settings(max_examples=50)
@given(data=st.data(), networks=st.integers(1, 4))
def test_the_result_s_probabilities_are_the_mean_of_the_networks_probabilities(board, data, networks):
    logits = data.draw(some_logits(networks)).astype(np.float64)
    result = mean_probability(board, "a", [predictions(x) for x in logits], ["a"] * networks)
    expected = np.mean([probability(board, x) for x in logits], axis=0)[np.argsort(CLIPS)]
    assert list(result.clip_id) == sorted(CLIPS)
    np.testing.assert_allclose(probability(board, result.scores["a"]), expected, rtol=1e-9, atol=1e-12)


def test_two_numbers_by_hand():
    """sigmoid(0) and sigmoid(log 3) are 1/2 and 3/4, whose mean is 5/8; the mean of logits would be another one."""
    each = [predictions(np.full((4, 1), x)) for x in (0.0, np.log(3))]
    tagged = mean_probability(TAGGING, "a", each, ["a", "a"])
    np.testing.assert_allclose(tagged.scores["a"], np.log(5 / 3))
    each = [predictions(np.tile(x, (4, 1))) for x in ([0.0, 0.0], [np.log(3), 0.0])]
    classified = mean_probability(CLASSIFICATION, "a", each, ["a", "a"])
    np.testing.assert_allclose(np.diff(classified.scores["a"], axis=1), np.log(3 / 5))


@pytest.mark.parametrize("networks", [1, 3])
def test_very_sure_answers_keep_their_order(networks):
    """In float64 sigmoid(80) and sigmoid(79.5) are both 1, and in float32 sigmoid(-80) is almost 0."""
    ordered = np.array([-80, -79.5, -40, 0, 40, 79.5, 80], np.float32)
    clips = [f"{i}" for i in range(7)]
    tagged = mean_probability(TAGGING, "a", [predictions(ordered[:, None], clips)] * networks, ["a"] * networks)
    assert (np.diff(tagged.scores["a"][:, 0]) > 0).all()
    np.testing.assert_allclose(tagged.scores["a"][:, 0], ordered, rtol=1e-9, atol=1e-12)
    rows = np.tile(ordered, (7, 1))
    classified = mean_probability(CLASSIFICATION, "a", [predictions(rows, clips)] * networks, ["a"] * networks)
    # The two largest differ by 0.5, the others by whole orders of magnitude.
    assert (np.diff(classified.scores["a"], axis=1) > 0).all()


@settings(max_examples=50)
@given(logits=arrays(np.float32, (6, 5), elements=st.floats(-1e5, 1e5, width=32, allow_subnormal=False)))
def test_one_network_s_order_is_kept_however_sure_it_is(logits):
    """Of the clips of a class in tagging, of the classes of a clip in classification: nothing saturates or ties."""
    logits = np.where(np.abs(logits) < 1e-3, 0, logits)  # closer numbers are equal probabilities in float64
    clips = [f"{i}" for i in range(6)]
    for board, axis in ((TAGGING, 0), (CLASSIFICATION, 1)):
        score = mean_probability(board, "a", [predictions(logits, clips)], ["a"]).scores["a"]
        np.testing.assert_array_equal(np.sign(np.diff(score, axis=axis)), np.sign(np.diff(logits, axis=axis)))


def test_the_mean_of_very_sure_networks_keeps_their_order():
    """Logits beyond 708, where a probability is no float64 any more: those of untrained or unscaled heads."""
    logits = np.array([-5000, -4999, -1000, -900, -708, 800, 900, 5000], np.float32)
    clips = [f"{i}" for i in range(8)]
    each = [predictions(x, clips) for x in (logits[:, None], logits[:, None] - 1)]
    tagged = mean_probability(TAGGING, "a", each, ["a", "a"]).scores["a"][:, 0]
    assert (np.diff(tagged) > 0).all() and np.isfinite(tagged).all()
    each = [predictions(np.tile(x, (8, 1)), clips) for x in (logits, logits - 1)]
    classified = mean_probability(CLASSIFICATION, "a", each, ["a", "a"]).scores["a"][0]
    assert (np.diff(classified) > 0).all() and np.isfinite(classified).all()


@BOARDS
def test_numbers_beyond_exp_stay_finite(board):
    logits = np.array([[1e4, -1e4, 0.0]] * 4)
    scores = mean_probability(board, "a", [predictions(logits)], ["a"]).scores["a"]
    assert np.isfinite(scores).all() and (scores[:, 0] > scores[:, 2]).all() and (scores[:, 2] >= scores[:, 1]).all()


@BOARDS
def test_clips_that_one_network_lacks_are_left_out(board):
    logits = np.arange(24.0).reshape(2, 4, 3)
    less = predictions(logits[1][[0, 3]], ["c", "b"])
    result = mean_probability(board, "a", [predictions(logits[0]), less], ["a", "a"])
    assert list(result.clip_id) == ["b", "c"] and result.target[:, 0].tolist() == [ord("b"), ord("c")]
    whole = mean_probability(board, "a", [predictions(x) for x in logits], ["a", "a"])
    np.testing.assert_array_equal(result.scores["a"], whole.scores["a"][[1, 2]])


@BOARDS
@settings(max_examples=25)
@given(data=st.data())
def test_the_order_of_clips_does_not_matter(board, data):
    first, second = data.draw(some_logits(2)).astype(np.float64)
    order = data.draw(st.permutations(range(len(CLIPS))))
    shuffled = predictions(second[order], [CLIPS[i] for i in order])
    expected = mean_probability(board, "a", [predictions(first), predictions(second)], ["a", "a"])
    result = mean_probability(board, "a", [predictions(first), shuffled], ["a", "a"])
    assert list(result.clip_id) == list(expected.clip_id)
    np.testing.assert_array_equal(result.target, expected.target)
    np.testing.assert_array_equal(result.scores["a"], expected.scores["a"])


@BOARDS
def test_numbers_like_probabilities_are_averaged_as_they_are_though_they_leave_0_to_1(board):
    """Clamped to 0..1 first, as logits are, the first two clips would tie, and so would the last two."""
    each = np.array([[[1.5], [1.1], [0.4], [-0.1]], [[0.9], [1.2], [0.6], [-0.4]]])
    result = mean_probability(board, "a", [replace(predictions(x), scale="probabilities") for x in each], ["a", "a"])
    np.testing.assert_allclose(result.scores["a"], each.mean(axis=0)[np.argsort(CLIPS)])
    assert result.scale == "probabilities"
    again = mean_probability(board, "a", [result, replace(result, scores={"a": result.scores["a"] + 1})], ["a", "a"])
    np.testing.assert_allclose(again.scores["a"], result.scores["a"] + 0.5)


@BOARDS
def test_logits_join_numbers_like_probabilities_as_probabilities(board):
    logits, like = np.random.default_rng(0).normal(size=(2, 4, 3))
    each = [predictions(logits), replace(predictions(like), scale="probabilities")]
    expected = (probability(board, logits) + like) / 2
    result = mean_probability(board, "a", each, ["a", "a"])
    np.testing.assert_allclose(result.scores["a"], expected[np.argsort(CLIPS)])


@BOARDS
def test_networks_of_different_modalities_make_one_of_both(board):
    logits = np.random.default_rng(0).normal(size=(2, 4, 3))
    each = [predictions(logits[0], modality="a"), predictions(logits[1], modality="v")]
    result = mean_probability(board, "av", each, ["a", "v"])
    alike = mean_probability(board, "a", [predictions(x) for x in logits], ["a", "a"])
    assert result.scores.keys() == {"av"}
    np.testing.assert_array_equal(result.scores["av"], alike.scores["a"])
