"""Localisation: the searches are exact and agree with the official codes; what is counted, averaged and refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks import Evaluation, EvaluationError, Predictions, evaluate
from bench.tasks.alignment import (
    align,
    log_softmax,
    overlaps,
    place_steps,
    spread_segments,
    spread_steps,
    transcript,
)
from datamodules.boards import Board, Localisation

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "localisation.json").read_text())


BOARD = Board("steps", "world", "none", "test", Localisation(), "recall")
A, B, C, NONE = 0, 1, 2, -1


def predictions(
    videos: Iterable[tuple[str, list[int], list[int]]], classes: int = 3, noise: float = 0.0, margin: float = 50.0
) -> Predictions:
    """Videos as (name, steps, label of each second); the annotated class scores `margin`, plus noise."""
    rng = np.random.default_rng(0)
    ids, group, target, steps = [], [], [], {}
    for name, order, labels in videos:
        steps[name] = order
        for second, label in enumerate(labels):
            ids.append(f"{name}/{second:04}")
            group.append(name)
            target.append(np.arange(classes) == label)
    target_NC = np.array(target, np.float32)
    score_NC = margin * target_NC + noise * rng.standard_normal(target_NC.shape)
    return Predictions(ids, target_NC, {"va": score_NC}, group=np.array(group), steps=steps)


def many(count: int = 12, noise: float = 1.0) -> Predictions:
    labels = [NONE] * 3 + [A] * 4 + [NONE] * 2 + [B] * 3 + [C] * 2 + [NONE] * 4
    return predictions([(f"v{i:02}", [A, B, C], labels) for i in range(count)], noise=noise, margin=1.0)


def measure(given: Predictions, board: Board = BOARD) -> Evaluation:
    return evaluate(board, "va", given)


def values(given: Predictions, board: Board = BOARD) -> dict[str, float]:
    return {name: metric.value for name, metric in measure(given, board).metrics.items()}


def normal(seed: int, seconds: int, columns: int) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal((seconds, columns)).astype(np.float32)


@st.composite
def small_scores(draw: st.DrawFn) -> np.ndarray:
    columns = draw(st.integers(1, 4))
    return normal(draw(st.integers(0, 10_000)), draw(st.integers(columns, 8)), columns)


# ---- searches


@settings(deadline=None, max_examples=60)
@given(small_scores())
def test_no_placement_in_order_scores_more(score_TK: np.ndarray) -> None:
    seconds, steps = score_TK.shape
    place_K = place_steps(score_TK)
    best = max(itertools.combinations(range(seconds), steps), key=lambda places: score_TK[places, range(steps)].sum())
    assert place_K.tolist() == list(best)


@pytest.mark.parametrize("case", GOLDEN["placements"]["cases"], ids=lambda case: str(case["shape"]))
def test_the_placement_is_that_of_crosstask(case: dict) -> None:
    assert place_steps(normal(case["seed"], *case["shape"])).tolist() == case["seconds"]


def test_equally_good_placements_take_the_earliest_seconds() -> None:
    assert place_steps(np.full((9, 3), -2.5)).tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=60)
@given(small_scores(), st.floats(1, 6))
def test_no_segmentation_is_more_likely(score_TS: np.ndarray, mean_length: float) -> None:
    seconds, segments = score_TS.shape

    def likelihood(border: tuple[int, ...]) -> float:
        lengths = np.diff(border)
        poisson = [n * math.log(mean_length) - mean_length - math.lgamma(n + 1) for n in lengths]
        return sum(poisson) + score_TS[np.arange(seconds), np.repeat(np.arange(segments), lengths)].sum()

    inner = itertools.combinations(range(1, seconds), segments - 1)
    best = max(((0, *border, seconds) for border in inner), key=likelihood)
    assert align(score_TS, mean_length).tolist() == list(best)


@pytest.mark.parametrize("case", GOLDEN["alignments"]["cases"], ids=lambda case: str(case["transcript"]))
def test_the_alignment_is_the_official_one_of_its_shifted_scores(case: dict) -> None:
    """The official decoder scores second t as the label of t - 1, and the first second twice: see `align`."""
    score_TC = log_softmax(normal(case["seed"], *case["shape"]))
    shifted_TC = np.concatenate([2 * score_TC[:1], score_TC[1:], np.zeros_like(score_TC[:1])])
    border = align(shifted_TC[:, case["transcript"]], case["mean_length"])
    assert np.repeat(case["transcript"], np.diff(border))[1:].tolist() == case["labels"]


def test_a_log_softmax_does_not_change_the_alignment() -> None:
    score_TS = normal(0, 40, 6)
    assert align(score_TS).tolist() == align(log_softmax(score_TS)).tolist()


def test_without_evidence_segments_are_equally_long() -> None:
    assert align(np.zeros((40, 4))).tolist() == spread_segments(40, 4).tolist() == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("search", [place_steps, align])
def test_more_than_there_are_seconds_is_refused(search: Callable) -> None:
    with pytest.raises(ValueError, match="do not fit into 2 seconds"):
        search(np.zeros((2, 3)))
    assert len(search(np.zeros((3, 3)))) >= 3


def test_spread_steps_are_the_middles_of_equal_parts() -> None:
    for seconds, steps in ((10, 1), (10, 4), (7, 7), (301, 9)):
        expected = [math.floor((k + 0.5) / steps * seconds) for k in range(steps)]
        assert spread_steps(seconds, steps).tolist() == expected
    assert spread_segments(10, 3).tolist() == [0, 3, 6, 10]


def test_log_softmax_is_that_of_large_logits_too() -> None:
    score_TK = normal(1, 5, 4).astype(np.float64)
    expected = score_TK - np.log(np.exp(score_TK).sum(1, keepdims=True))
    np.testing.assert_allclose(log_softmax(score_TK + 5000), expected, atol=1e-9)


# ---- annotations and overlaps


def test_a_second_with_several_classes_has_the_one_that_began_first() -> None:
    target_TC = np.zeros((10, 3))
    target_TC[1:5, B] = target_TC[3:8, A] = 1  # B began first, A goes on alone
    target_TC[8:10, [A, C]] = 1  # A has lasted longer
    label_S, border = transcript(target_TC)
    assert label_S.tolist() == [NONE, B, A]
    assert border.tolist() == [0, 1, 5, 10]
    label_S, border = transcript(np.array([[0, 1, 1], [0, 1, 1], [0, 0, 0], [0, 0, 1]]))
    assert label_S.tolist() == [B, NONE, C] and border.tolist() == [0, 2, 3, 4]


def test_overlaps_by_hand() -> None:
    iod_S, iou_S = overlaps(np.array([0, 4, 6, 10]), np.array([0, 2, 3, 10]))
    assert iod_S.tolist() == [1, 0, 4 / 7]
    assert iou_S.tolist() == [2 / 4, 0, 4 / 7]


# ---- the task


def test_right_scores_find_everything() -> None:
    """Steps that a video does not show are not missed, and a step may come twice."""
    given = predictions(
        [
            ("x", [A, B, C], [NONE, A, A, NONE, B, B, B, B, NONE, NONE]),
            ("y", [B, A, B], [B, B, NONE, A, A, A, NONE, B]),
        ]
    )
    found = measure(given)
    assert {name: metric.value for name, metric in found.metrics.items()} == dict.fromkeys(found.metrics, 1.0)
    assert list(found.metrics) == ["recall", "recall_pooled", "IoD", "IoU"]
    assert found.n == 2 and not found.notes


def test_constant_scores_by_hand() -> None:
    """Steps take the first seconds, segments are equally long."""
    given = predictions([("x", [A, B], [A, A, NONE, NONE, B, B, B, B, B])], margin=0.0)
    assert values(given) == pytest.approx({"recall": 1 / 2, "recall_pooled": 1 / 2, "IoD": 5 / 6, "IoU": 19 / 30})


def test_chance_is_what_even_distances_get() -> None:
    labels = [NONE] * 2 + [A] * 2 + [NONE] * 2 + [B] * 4 + [NONE] * 2
    chance = measure(predictions([("x", [A, B], labels)])).chance
    # Seconds 3 and 9; borders 0 2 4 7 9 12 against 0 2 4 6 10 12.
    assert chance == pytest.approx({"recall": 1.0, "recall_pooled": 1.0, "IoD": 1.0, "IoU": (1 + 2 / 4) / 2})


def recall_of(shares: dict[str, tuple[int, int]]) -> Predictions:
    """Videos in which `found` of `shown` steps are found; the first letter of their name is the task."""
    orders = {"p": [A, B], "q": [B, C]}
    videos, wrong = [], []
    for name, (found, shown) in shares.items():
        order = orders[name[0]]
        videos.append((name, order, [order[0], NONE, NONE, order[1] if shown == 2 else NONE]))
        wrong += [name] * (found < shown)
    given = predictions(videos)
    for name in wrong:  # the first step is taken to be in the second where nothing is
        given.scores["va"][given.clip_id.index(f"{name}/0001"), orders[name[0]][0]] += 200
    return given


def test_recall_is_averaged_as_the_board_says() -> None:
    given = recall_of({"p1": (1, 2), "p2": (1, 1), "p3": (0, 1), "q1": (2, 2)})
    by_task = replace(BOARD, task=Localisation(average="task"))
    assert values(given)["recall"] == pytest.approx((1 / 2 + 1 + 0 + 1) / 4)
    assert values(given)["recall_pooled"] == pytest.approx(4 / 6)
    assert values(given, by_task)["recall"] == pytest.approx(((1 / 2 + 1 + 0) / 3 + 1) / 2)
    assert values(given, by_task)["recall_pooled"] == pytest.approx((2 / 4 + 2 / 2) / 2)


def test_log_softmax_is_over_the_steps_of_the_video() -> None:
    """Raw scores put A on second 1; among the two steps it is surer of A on second 0. C is not to be found."""
    given = predictions([("x", [A, B], [A, NONE, NONE, B])])
    given.scores["va"] = np.array([[5.0, 0, 90], [6, 5.9, 0], [0, 0, 0], [0, 9, 0]])
    assert values(given)["recall"] == 1 / 2
    assert values(given, replace(BOARD, task=Localisation(normalise="log_softmax")))["recall"] == 1.0


def test_background_scores_the_mean_of_the_steps_of_the_video() -> None:
    """Only scores above it pull a segment; adding to all scores, or changing other classes', changes nothing."""
    given = many()
    other = replace(given, scores={"va": given.scores["va"] + 7})
    assert values(other) == pytest.approx(values(given))
    for order, moved in (([A, B, C], True), ([A, B], False)):
        labels = [A if label == C else label for label in [NONE, NONE, A, A, NONE, NONE, B, B]]
        noisy = predictions([("x", order, labels * 4)], noise=2.0, margin=1.0)
        raised_NC = noisy.scores["va"] + np.array([0, 0, 30])
        raised = values(replace(noisy, scores={"va": raised_NC}))["IoU"]
        assert (raised != pytest.approx(values(noisy)["IoU"])) == moved


def test_the_order_of_rows_does_not_matter_and_intervals_repeat() -> None:
    given = many()
    once = measure(given)
    assert once == measure(given.take(np.random.default_rng(1).permutation(len(given.clip_id))))
    assert once.n == 12
    for metric in once.metrics.values():
        assert metric.low < metric.value < metric.high


def test_videos_that_say_nothing_are_left_out_and_short_ones_are_not_solved() -> None:
    full, empty, short = ("x", [A, B], [A, NONE, B]), ("y", [A, B], [NONE] * 4), ("z", [A, B, C], [A, C])
    found = measure(predictions([full, empty, short]))
    assert found.metrics["recall"].value == 1 / 2
    assert found.metrics["recall_pooled"].value == 2 / 4
    assert found.metrics["IoU"].value == 1.0
    assert found.chance["recall"] <= 1 / 2
    assert found.notes == {"videos_shorter_than_steps": 1, "videos_without_annotated_steps": 1} and found.n == 3
    with pytest.raises(EvaluationError, match="none of 1 videos has an annotated step"):
        measure(predictions([empty]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"group": None}, "no group"),
        ({"steps": {}}, "no steps for video 'x'"),
        ({"steps": {"x": []}}, "no steps for video 'x'"),
        ({"steps": {"x": [A, 3]}}, r"steps \[0, 3\] of video 'x' must be classes 0 to 2"),
        ({"steps": {"x": [-1]}}, "must be classes 0 to 2"),
        ({"steps": {"x": [A, C]}}, r"annotated with classes \[1\] that are not in its steps"),
        ({"scores": {"va": np.zeros((3, 2))}}, "do not fit"),
    ],
)
def test_what_cannot_be_measured_is_refused(changed: dict, message: str) -> None:
    given = predictions([("x", [A, B], [A, NONE, B])])
    with pytest.raises(EvaluationError, match=f"steps: .*{message}"):
        measure(replace(given, **changed))
