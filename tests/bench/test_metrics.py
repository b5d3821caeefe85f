"""Metrics against independent references: scikit-learn, scipy, brute force and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, roc_auc_score

from bench.tasks import metrics


def clips(seed: int, n: int = 60, classes: int = 7, levels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Targets, each class with positives and negatives, and scores of few levels, thus with many ties."""
    rng = np.random.default_rng(seed)
    target_NC = rng.random((n, classes)) < 0.2
    target_NC[0], target_NC[1] = True, False
    return target_NC, rng.integers(levels, size=(n, classes)).astype(float)


@pytest.mark.parametrize("levels", [2, 6, 10**6])
def test_average_precision_and_auc_equal_sklearn_with_ties_and_sample_weights(levels: int) -> None:
    target_NC, score_NC = clips(1, levels=levels)
    for weight_N in (None, np.random.default_rng(2).uniform(0.1, 3, len(target_NC))):
        ap_C = metrics.average_precision(target_NC, score_NC, weight_N)
        auc_C = metrics.auc(target_NC, score_NC, weight_N)
        for c in range(target_NC.shape[1]):
            given_c = {"y_score": score_NC[:, c], "sample_weight": weight_N}
            assert ap_C[c] == pytest.approx(average_precision_score(target_NC[:, c], **given_c), abs=1e-12)
            assert auc_C[c] == pytest.approx(roc_auc_score(target_NC[:, c], **given_c), abs=1e-12)


def test_resample_counts_give_the_metric_of_the_repeated_clips() -> None:
    target_NC, score_NC = clips(3)
    (weight_NB,) = metrics.resamples(len(target_NC), count=20, seed=4)
    ap_BC, auc_BC = metrics.Rankings(target_NC, score_NC).measure(weight_NB)
    for b, c in itertools.product(range(20), range(target_NC.shape[1])):
        rows = np.repeat(np.arange(len(target_NC)), weight_NB[:, b].astype(int))
        assert ap_BC[b, c] == pytest.approx(average_precision_score(target_NC[rows, c], score_NC[rows, c]), abs=1e-12)
        assert auc_BC[b, c] == pytest.approx(roc_auc_score(target_NC[rows, c], score_NC[rows, c]), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.integers(1, 20))
def test_average_precision_depends_on_neither_the_order_of_clips_nor_a_monotone_change_of_scores(seed, levels) -> None:
    target_NC, score_NC = clips(seed, n=30, classes=3, levels=levels)
    before_C = metrics.average_precision(target_NC, score_NC)
    order = np.random.default_rng(seed).permutation(30)
    np.testing.assert_allclose(metrics.average_precision(target_NC[order], score_NC[order]), before_C, atol=1e-12)
    np.testing.assert_array_equal(metrics.average_precision(target_NC, np.exp(score_NC) - 5), before_C)


def test_goldens_of_average_precision_perfect_reversed_and_constant() -> None:
    target_NC = np.array([[1], [1], [0], [0], [0]])
    for score, ap, auc in (([5, 4, 3, 2, 1], 1, 1), ([1, 2, 3, 4, 5], (1 / 4 + 2 / 5) / 2, 0), ([7] * 5, 0.4, 0.5)):
        assert metrics.average_precision(target_NC, np.array(score)[:, None])[0] == pytest.approx(ap)
        assert metrics.auc(target_NC, np.array(score)[:, None])[0] == pytest.approx(auc)


def test_classes_without_positives_or_negatives_have_no_value_and_do_not_enter_the_mean() -> None:
    target_NC = np.array([[1, 0, 1], [0, 0, 1]])
    score_NC = np.array([[2, 1, 1], [1, 2, 2]])
    ap_C, auc_C = metrics.average_precision(target_NC, score_NC), metrics.auc(target_NC, score_NC)
    np.testing.assert_array_equal(ap_C, [1, np.nan, 1])
    np.testing.assert_array_equal(auc_C, [1, np.nan, np.nan])
    assert metrics.macro(np.array([[0.5, np.nan, 0.25]])) == pytest.approx(0.375)
    assert np.isnan(metrics.macro(np.array([[np.nan, np.nan]])))


def test_measuring_leaves_the_number_of_threads_as_it_was() -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        metrics.average_precision(*clips(0))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_dprime_of_auc_one_half_is_zero_and_of_a_perfect_ranking_finite() -> None:
    assert metrics.dprime(0.5) == 0
    assert metrics.dprime(0.9) == pytest.approx(math.sqrt(2) * 1.2815515655446004)
    assert 6 < metrics.dprime(1.0) < 7
    assert metrics.dprime(0.0) == pytest.approx(-metrics.dprime(1.0))


@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_lwlrap_equals_sklearns_label_ranking_with_label_counts_as_weights(levels: int) -> None:
    target_NC, score_NC = clips(5, levels=levels)
    precision_N, labels_N = metrics.label_precision(target_NC, score_NC, block=10)
    labelled = labels_N > 0
    expected = label_ranking_average_precision_score(
        target_NC[labelled], score_NC[labelled], sample_weight=labels_N[labelled]
    )
    assert precision_N.sum() / labels_N.sum() == pytest.approx(expected, abs=1e-12)
    assert not precision_N[~labelled].any()


@pytest.mark.parametrize(("positives", "total"), [(1, 1), (1, 6), (2, 6), (5, 6), (6, 6)])
def test_chance_of_average_precision_is_its_mean_over_all_orders(positives: int, total: int) -> None:
    found = []
    for places in itertools.combinations(range(total), positives):
        target = np.zeros((total, 1))
        target[list(places)] = 1
        found.append(metrics.average_precision(target, -np.arange(total)[:, None])[0])
    assert metrics.random_average_precision(positives, total) == pytest.approx(np.mean(found), abs=1e-12)


def test_chance_of_average_precision_tends_to_the_prevalence() -> None:
    assert metrics.random_average_precision(2000, 100_000) == pytest.approx(0.02, rel=0.01)
    assert np.isnan(metrics.random_average_precision(0, 10))


def test_top_k_without_ties_equals_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_accuracy

    rng = np.random.default_rng(0)
    score_NC, target_N = rng.normal(size=(200, 9)), rng.integers(9, size=200)
    for k in (1, 5, 9):
        reference = multiclass_accuracy(torch.from_numpy(score_NC), torch.from_numpy(target_N), 9, "micro", k)
        assert metrics.top_k(target_N, score_NC, k).mean() == pytest.approx(float(reference), abs=1e-6)


def test_top_k_of_tied_classes_is_that_of_a_random_order() -> None:
    np.testing.assert_allclose(metrics.top_k([0, 3], np.zeros((2, 8)), 1), 1 / 8)
    np.testing.assert_allclose(metrics.top_k([0, 3], np.zeros((2, 8)), 5), 5 / 8)
    np.testing.assert_allclose(metrics.top_k([0, 1, 2, 3], np.tile([9.0, 5, 5, 1], (4, 1)), 2), [1, 0.5, 0.5, 0])


def test_reciprocal_rank_counts_the_first_places_and_shares_those_of_ties() -> None:
    scores = np.array([[9.0, 5, 4, 3], [5, 9, 4, 3], [4, 9, 5, 3], [3, 9, 5, 4]])
    np.testing.assert_allclose(metrics.reciprocal_rank([0, 0, 0, 0], scores, 3), [1, 1 / 2, 1 / 3, 0])
    # The mean over all orders of what ties.
    np.testing.assert_allclose(metrics.reciprocal_rank([2], [[9.0, 5, 5, 5, 1]], 3), [(1 / 2 + 1 / 3) / 3])
    np.testing.assert_allclose(metrics.reciprocal_rank([0], np.zeros((1, 2)), 3), [(1 + 1 / 2) / 2])


def test_reciprocal_rank_among_all_classes_is_sklearns_precision_of_one_label() -> None:
    rng = np.random.default_rng(3)
    label_N, score_NC = rng.integers(7, size=50), rng.normal(size=(50, 7))
    expected = label_ranking_average_precision_score(np.eye(7)[label_N], score_NC)
    assert metrics.reciprocal_rank(label_N, score_NC, 7).mean() == pytest.approx(expected)


def test_resamples_are_counts_of_n_draws_and_the_same_again() -> None:
    blocks = list(metrics.resamples(50, count=300, seed=1))
    assert sum(block.shape[1] for block in blocks) == 300
    all_NB = np.concatenate(blocks, axis=1)
    assert (all_NB.sum(0) == 50).all()
    assert all_NB.var() == pytest.approx(49 / 50, rel=0.05)  # of a binomial with mean 1
    np.testing.assert_array_equal(all_NB, np.concatenate(list(metrics.resamples(50, count=300, seed=1)), axis=1))


def test_interval_of_a_mean_agrees_with_the_normal_one_and_shrinks_with_the_clips() -> None:
    rng = np.random.default_rng(0)
    for n in (100, 2500):
        hit_N = rng.random(n) < 0.4
        found = metrics.bootstrap(lambda weight_NB, hit_N=hit_N, n=n: {"top1": hit_N @ weight_NB / n}, n)
        value, low, high = found["top1"]
        assert value == pytest.approx(hit_N.mean())
        half = 1.96 * math.sqrt(value * (1 - value) / n)
        assert (value - low, high - value) == (pytest.approx(half, rel=0.2), pytest.approx(half, rel=0.2))


def test_interval_always_holds_the_value() -> None:
    assert metrics.interval([2.0, 3.0], 1.0)[0] == 1.0
    low, high = metrics.unbiased_interval([2.0, 2.0], 1.0)
    assert low == 0.0 and high == 1.0


def test_unbiased_interval_holds_the_true_average_precision_where_the_percentile_one_fails() -> None:
    """The bias of average precision under resampling, see `unbiased_interval`; here 60 trials of a small split."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        target_NC = rng.random((n, 10)) < 0.03
        return target_NC, rng.normal(size=(n, 10)) + 1.5 * target_NC

    true = metrics.average_precision(*draw(200_000)).mean()
    held = {metrics.interval: 0, metrics.unbiased_interval: 0}
    for _ in range(60):
        target_NC, score_NC = draw(800)
        rankings = metrics.Rankings(target_NC, score_NC)
        for make in held:
            found = metrics.bootstrap(lambda w, r=rankings: {"mAP": metrics.macro(r.measure(w)[0])}, 800, make, 200)
            held[make] += found["mAP"][1] <= true <= found["mAP"][2]
    assert held[metrics.unbiased_interval] >= 50
    assert held[metrics.interval] < held[metrics.unbiased_interval]
