"""The paired bootstrap against a plain loop, against scipy, and what it says of planted differences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench import registry, tasks
from bench.compare.paired import ComparisonError, compare
from bench.tasks import Predictions, metrics

BOTH = ("av", "av")


def tagged(seed: int, n: int = 60, skill: float = 1.0, classes: int = 4) -> Predictions:
    """Equal clips and labels for all seeds, scores that are better with `skill`."""
    target = np.random.default_rng(99).random((n, classes)) < 0.3
    scores = np.random.default_rng(seed).normal(size=(n, classes)) + skill * target
    return Predictions([f"clip{i:03}" for i in range(n)], target.astype(float), {"av": scores.astype(np.float32)})


def classified(seed: int, n: int = 120, skill: float = 1.0, classes: int = 5) -> Predictions:
    label = np.random.default_rng(98).integers(classes, size=n)
    target = np.eye(classes)[label]
    scores = np.random.default_rng(seed).normal(size=(n, classes)) + skill * target
    return Predictions([f"clip{i:03}" for i in range(n)], target, {"av": scores.astype(np.float32)})


def found(seed: int, n: int = 50, noise: float = 1.0, groups: int = 0) -> Predictions:
    """Embeddings of two modalities; the query's is the other's with noise."""
    gallery = np.random.default_rng(97).normal(size=(n, 6))
    query = gallery + noise * np.random.default_rng(seed).normal(size=(n, 6))
    group = np.array([f"group{i % groups}" for i in range(n)]) if groups else None
    scores = {name: x.astype(np.float32) for name, x in {"a": query, "t": query, "v": gallery}.items()}
    return Predictions([f"clip{i:03}" for i in range(n)], np.eye(10)[np.arange(n) % 10], scores, group)


CASES = {
    "tagging": ("audioset-20k", tagged(1), tagged(2, skill=0.6)),
    "classification": ("vggsound", classified(1), classified(2, skill=0.7)),
    "retrieval": ("vggsound-a2v", found(1), found(2, noise=2.0)),
    "captions": ("youcook2-t2v", found(1, groups=20), found(2, noise=2.0, groups=20)),
    "videos": ("youcook2-video-t2av", found(1, groups=20), found(2, noise=2.0, groups=20)),
}


def with_all_modalities(predictions: Predictions) -> Predictions:
    if "v" in predictions.scores:
        predictions.scores["av"] = predictions.scores["v"]
    return predictions


def drawn_by_hand(board, side: Predictions, units: list[str], counts: np.ndarray) -> dict[str, float]:
    """A side's metrics where each unit is drawn so often: its statistic, asked for one resample at a time."""
    statistic = tasks.statistic(board, "av", side)
    weight = np.array([counts[units.index(unit)] for unit in statistic.units], np.float32)
    return {name: float(value[0]) for name, value in statistic.measure(weight[:, None]).items()}


@pytest.mark.parametrize("case", CASES)
def test_differences_are_those_of_both_sides_on_the_same_draws(case: str) -> None:
    """Each resample gives both sides the same clips, however either orders them."""
    name, before, after = CASES[case]
    board = registry.board(name)
    before, after = with_all_modalities(before), with_all_modalities(after)
    shuffled = after.take(np.random.default_rng(0).permutation(len(after.clip_id)))
    got = compare(board, before, shuffled, BOTH, count=40)
    units = sorted(tasks.statistic(board, "av", before).units)
    assert got.n == len(units)
    draws = np.concatenate(list(metrics.resamples(len(units), 40)), axis=1).T
    by_hand = [[drawn_by_hand(board, side, units, counts) for side in (before, after)] for counts in draws]
    interval = tasks.statistic(board, "av", before).interval
    plain = [tasks.evaluate(board, "av", side).metrics for side in (before, after)]
    for metric, difference in got.differences.items():
        assert (difference.before, difference.after) == (plain[0][metric].value, plain[1][metric].value)
        changes = np.array([right[metric] - left[metric] for left, right in by_hand])
        assert (difference.low, difference.high) == pytest.approx(interval(changes, difference.change), abs=1e-9)
        rarer = min((changes <= 0).sum(), (changes >= 0).sum())
        assert difference.p == min(1.0, 2 * (rarer + 1) / 41)


def test_interval_of_top1_agrees_with_scipys_paired_bootstrap() -> None:
    before, after = classified(1, n=300), classified(2, n=300, skill=1.5)
    difference = compare(registry.board("vggsound"), before, after, BOTH).differences["top1"]
    hits = [metrics.top_k(side.target.argmax(1), side.scores["av"], 1) for side in (before, after)]
    reference = stats.bootstrap(
        hits, lambda x, y, axis=-1: y.mean(axis) - x.mean(axis), paired=True, method="percentile", rng=0
    )
    low, high = reference.confidence_interval
    assert (difference.low, difference.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_pairing_finds_what_two_intervals_do_not() -> None:
    """The same answers but for every tenth: each side's own interval holds the other's value."""
    before = classified(1, n=400)
    hit = metrics.top_k(before.target.argmax(1), before.scores["av"], 1) == 1
    lost = np.flatnonzero(hit)[::12]
    scores = before.scores["av"].copy()
    scores[lost] = -scores[lost]
    after = Predictions(before.clip_id, before.target, {"av": scores})
    board = registry.board("vggsound")
    difference = compare(board, before, after, BOTH).differences["top1"]
    alone = tasks.evaluate(board, "av", before).metrics["top1"]
    assert alone.low < difference.after < alone.high
    assert difference.change == pytest.approx(-len(lost) / 400)
    assert difference.high < 0 and difference.p < 0.01 and difference.gain < 0


@pytest.mark.parametrize("case", CASES)
def test_equal_predictions_do_not_differ(case: str) -> None:
    name, side, _ = CASES[case]
    side = with_all_modalities(side)
    for difference in compare(registry.board(name), side, side, BOTH, count=50).differences.values():
        assert (difference.change, difference.low, difference.high, difference.p) == (0, 0, 0, 1)


@settings(max_examples=25)
@given(data=st.data())
def test_only_clips_that_both_sides_have_count(data) -> None:
    before, after = tagged(1, n=30), tagged(2, n=30)
    keep = [data.draw(st.lists(st.integers(0, 29), min_size=20, unique=True), label=side) for side in ("left", "right")]
    common = sorted(set(keep[0]) & set(keep[1]))
    board = registry.board("audioset-20k")
    got = compare(board, before.take(np.array(keep[0])), after.take(np.array(keep[1])), BOTH, count=20)
    whole = compare(board, before.take(np.array(common)), after.take(np.array(common)), BOTH, count=20)
    assert got == whole and got.n == len(common)


def test_the_gallery_is_that_of_the_common_clips_and_missing_ones_count_for_neither() -> None:
    board = registry.board("msrvtt-t2av")
    before, after = (with_all_modalities(found(seed)) for seed in (1, 2))
    before.missing = 30
    half = after.take(np.arange(25))
    got = compare(board, before, half, BOTH, count=20)
    before.missing = 0
    assert got == compare(board, before.take(np.arange(25)), half, BOTH, count=20) and got.n == 25


def test_a_lower_rank_is_a_gain() -> None:
    differences = compare(registry.board("vggsound-a2v"), found(1, noise=3.0), found(1, noise=0.1), BOTH).differences
    assert differences["MedR"].change < 0 < differences["MedR"].gain
    assert differences["R@1"].change == differences["R@1"].gain > 0


def test_sides_that_cannot_be_compared_are_refused() -> None:
    board, side = registry.board("audioset-20k"), tagged(1)
    others = {
        "no clip in common": Predictions([f"other{i}" for i in range(60)], side.target, side.scores),
        "4 classes before, 3 after": tagged(1, classes=3),
        "60 clips have other labels before and after, first clip000": Predictions(
            side.clip_id, 1 - side.target, side.scores
        ),
        "clip clip000 more than once": side.take(np.array([0, 1, 0])),
    }
    for message, other in others.items():
        with pytest.raises(ComparisonError, match=message):
            compare(board, side, other, BOTH)
    with pytest.raises(ComparisonError, match="group their clips"):
        compare(registry.board("youcook2-t2v"), found(1, groups=20), found(1, groups=10), BOTH)
