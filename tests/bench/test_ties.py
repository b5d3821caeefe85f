"""Ties in retrieval: the expected share over orders of tied items, against all orders written out; and numbers that no
type holds."""

from __future__ import annotations

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from bench.tasks import EvaluationError, evaluate, statistic
from bench.tasks import ranks as ranking
from bench.tasks.ties import Ranks
from tests.bench.made_up import board, predictions, values

RECALLS = {"R@1": 1, "R@5": 5, "R@10": 10}


# The formula.


@pytest.mark.parametrize(("above", "wrong", "right"), itertools.product((0, 1, 3), (0, 1, 2, 4), (1, 2)))
def test_what_is_found_at_k_is_the_share_of_all_orders_of_the_tied_items(above: int, wrong: int, right: int) -> None:
    ranks = Ranks(*(np.array([number]) for number in (above, wrong, right)))
    orders = set(itertools.permutations([False] * wrong + [True] * right))
    firsts = [above + order.index(True) for order in orders]
    assert ranks.averaged[0] == pytest.approx(np.mean(firsts), abs=1e-12)
    for k in range(1, above + wrong + right + 3):
        assert ranks.found(k)[0] == pytest.approx(np.mean([first < k for first in firsts]), abs=1e-12)


@settings(max_examples=100)
@given(above=st.integers(0, 12), wrong=st.integers(0, 10**6), right=st.integers(1, 10**4), k=st.integers(1, 10))
def test_what_is_found_at_k_is_the_hypergeometric_law_in_any_size(above, wrong, right, k) -> None:
    found = Ranks(*(np.array([number]) for number in (above, wrong, right))).found(k)[0]
    assert found == pytest.approx(
        hypergeom(wrong + right, right, max(min(k - above, wrong + right), 0)).sf(0), abs=1e-9
    )


# Boards.


def test_pairs_of_equal_captions_are_found_half_of_the_time() -> None:
    x_ND = np.random.default_rng(0).normal(size=(1000, 32))
    x_ND[50:100] = x_ND[:50]
    for similarity in ("cosine", "dot"):
        scores = {"t": x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)}
        found = values(evaluate(board("t"), "vt", predictions(scores | {"v": scores["t"]}, similarity=similarity)))
        assert found["R@1"] == pytest.approx(0.95) and found["R@5"] == 1
        assert found["MedR"] == 1 and found["MeanR"] == pytest.approx(1.05)  # averaged


@pytest.mark.parametrize("collapsed", ["t", "v", "tv"])
def test_a_collapsed_embedding_gets_what_chance_gets(collapsed: str) -> None:
    """Of the queries, which then all rank the gallery alike, of the gallery, or of both."""
    rng = np.random.default_rng(1)
    scores = {m: np.ones((9, 4)) if m in collapsed else rng.normal(size=(9, 4)) for m in "tv"}
    evaluation = evaluate(board("t"), "vt", predictions(scores))
    assert values(evaluation)["R@5"] == pytest.approx(5 / 9)
    assert values(evaluation) == pytest.approx(evaluation.chance)


@pytest.mark.parametrize(("query", "gallery"), ["tv", "vt", "av"])
@pytest.mark.parametrize("missing", [0, 7])
def test_constant_similarities_get_what_chance_gets_with_several_right_items_too(query, gallery, missing) -> None:
    group = np.sort(np.r_[np.arange(15), np.random.default_rng(2).integers(15, size=40)])
    scores = {m: np.ones((55, 3)) for m in {query, gallery}}
    asked = board(query, gallery, missing="misses")
    evaluation = evaluate(asked, "vt", predictions(scores, group=group, missing=missing))
    assert {name: values(evaluation)[name] for name in RECALLS} == pytest.approx(
        {name: evaluation.chance[name] for name in RECALLS}
    )
    assert values(evaluation)["MeanR"] == pytest.approx(evaluation.chance["MeanR"])


def test_videos_that_tie_are_found_as_often_as_chance_says() -> None:
    group = np.array([f"v{i}" for i in np.r_[np.arange(9), 0, 0, 4]])
    evaluation = evaluate(board("t", unit="video"), "vt", predictions({m: np.ones((12, 3)) for m in "tv"}, group=group))
    assert values(evaluation) == pytest.approx(evaluation.chance) and evaluation.chance["R@5"] == pytest.approx(5 / 9)


def test_videos_of_equal_clips_are_found_half_of_the_time() -> None:
    x_ND = np.random.default_rng(3).normal(size=(20, 8))
    x_ND[10:14] = x_ND[:4]  # clips 0 to 3 are video 0's, and the same are video 5's
    group = np.array([f"v{i:02}" for i in np.r_[[0] * 4, 1, 1, 2, 2, 3, 3, [5] * 4, 6, 6, 7, 7, 8, 8]])
    found = values(evaluate(board("t", unit="video"), "vt", predictions({"t": x_ND, "v": x_ND}, group=group)))
    assert found["R@1"] == pytest.approx((6 + 2 / 2) / 8) and found["R@5"] == 1


@pytest.mark.parametrize("precision", ranking.PRECISIONS, ids=["bfloat16", "float32", "float64"])
def test_better_and_tied_items_are_counted_exactly_by_products_of_any_precision(precision, monkeypatch) -> None:
    """Copies of the right items and of better ones among many whose products are equal in bfloat16."""
    rng = np.random.default_rng(4)
    monkeypatch.setattr(ranking, "PRECISIONS", (precision, ranking.PRECISIONS[-1]))
    monkeypatch.setattr(ranking, "WORK", 0)
    monkeypatch.setattr(ranking, "_bfloat16_is_quicker", lambda: True)
    base_ND = (1 + 1e-3 * rng.normal(size=(300, 24))).astype(np.float32)
    gallery_ND = base_ND[rng.integers(300, size=900)]  # each about three times
    group_N = rng.integers(40, size=900)
    group_Q = rng.permutation(np.unique(group_N))
    query_QD = rng.normal(size=(len(group_Q), 24)).astype(np.float32)
    found = ranking.retrieval_ranks(query_QD, gallery_ND, group_Q, group_N, "dot")
    for row, group, above, wrong, right in zip(query_QD, group_Q, *found, strict=True):
        score_N = (gallery_ND.astype(np.float64) * row).sum(1)
        best = score_N[group_N == group].max()
        tied_N = score_N == best
        assert (above, wrong) == ((score_N > best).sum(), (tied_N & (group_N != group)).sum())
        assert right == (tied_N & (group_N == group)).sum() >= 1


def test_resamples_measure_ties_as_the_repeated_queries_do() -> None:
    rng = np.random.default_rng(5)
    x_ND = rng.integers(-1, 2, size=(30, 3)).astype(float)  # many ties
    one = statistic(board("t"), "vt", predictions({"t": x_ND, "v": x_ND}, similarity="dot"))
    weight_UB = np.stack([np.bincount(rng.integers(30, size=30), minlength=30) for _ in range(20)], axis=1)
    measured = one.measure(weight_UB.astype(np.float32))
    ranks = ranking.retrieval_ranks(x_ND, x_ND, similarity="dot")
    place = [int(unit) for unit in one.units]
    for b, count_U in enumerate(weight_UB.T):
        rows = np.repeat(place, count_U)
        for name, k in RECALLS.items():
            w, r, m = ranks.wrong_Q[rows], ranks.right_Q[rows], (k - ranks.above_Q[rows]).clip(0)
            expected = [1 - comb(int(a), int(c)) / comb(int(a + b), int(c)) if c <= a else 1.0
                        for a, b, c in zip(w, r, m, strict=True)]  # fmt: skip
            assert measured[name][b] == pytest.approx(np.mean(expected), abs=1e-6)
    interval = evaluate(board("t"), "vt", predictions({"t": x_ND, "v": x_ND}, similarity="dot")).metrics["R@1"]
    assert interval.low < interval.value < interval.high


# Numbers that no type holds.


@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1e60, 1e150, 1e200])
def test_cosines_are_those_of_embeddings_of_any_size(scale: float) -> None:
    rng = np.random.default_rng(7)
    v_ND = rng.normal(size=(50, 8))
    t_ND = v_ND + rng.normal(size=v_ND.shape)
    expected = evaluate(board("t"), "vt", predictions({"t": t_ND, "v": v_ND}))
    assert evaluate(board("t"), "vt", predictions({"t": t_ND * scale, "v": v_ND * scale})) == expected
    group = np.arange(50) // 2
    for ranks in (ranking.video_ranks(x * t_ND, x * v_ND, group) for x in (1, scale)):
        np.testing.assert_array_equal(ranks, ranking.video_ranks(t_ND, v_ND, group))


@pytest.mark.parametrize("unit", ["", "video"])
def test_embeddings_that_overflow_when_they_are_cast_are_refused_and_not_found_first(unit: str) -> None:
    x_ND = np.random.default_rng(8).normal(size=(50, 8))
    scores = {"t": x_ND, "v": np.r_[x_ND[:20], 1e150 * x_ND[20:]]}
    given = predictions(scores, similarity="dot", group=np.array([f"{i:05}" for i in range(50)]))
    with pytest.raises(EvaluationError, match=r"scores of 'v' as float32 are NaN or infinite for 30 clips \(00020, "):
        evaluate(board("t", unit=unit), "vt", given)
    for ranks in (ranking.retrieval_ranks, lambda *x: ranking.video_ranks(*x[:2], np.arange(50), x[-1])):
        with pytest.raises(ValueError, match="embedding 20 of 50 is NaN or beyond float32"):
            ranks(scores["t"], scores["v"], None, None, "dot")
