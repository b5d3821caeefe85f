"""Samplers: exactness, independence of the number of ranks, and going on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datamodules.samplers import EvalSampler, TrainSampler, class_balancing_weights, weighted_epoch_order


@given(count=st.integers(0, 200), batch=st.integers(1, 17), ranks=st.integers(1, 5))
def test_evaluation_gives_each_clip_exactly_once_for_any_number_of_ranks(count, batch, ranks):
    samplers = [EvalSampler(count, batch, rank=r, ranks=ranks) for r in range(ranks)]
    seen = sorted(ref.index for sampler in samplers for refs in sampler for ref in refs)
    assert seen == list(range(count))
    assert all(len(sampler) == len(list(sampler)) for sampler in samplers)


@given(count=st.integers(1, 100), share=st.integers(1, 8), ranks=st.integers(1, 4), seed=st.integers(0, 9))
def test_a_global_batch_is_the_same_clips_for_any_number_of_ranks(count, share, ranks, seed):
    batch = share * ranks
    whole = list(TrainSampler(count, 2, batch, seed=seed))
    parts = [list(TrainSampler(count, 2, batch, rank=r, ranks=ranks, seed=seed)) for r in range(ranks)]
    for step, refs in enumerate(whole):
        assert [ref for part in parts for ref in part[step]] == refs


@given(count=st.integers(1, 60), batch=st.integers(1, 9), start=st.integers(0, 40), weighted=st.booleans())
def test_a_sampler_goes_on_where_a_run_was_cut_off(count, batch, start, weighted):
    weights = np.linspace(1, 2, count) if weighted else None
    whole = TrainSampler(count, 3, batch, weights=weights, draws=count)
    rest = TrainSampler(count, 3, batch, start=start, weights=weights, draws=count)
    assert list(rest) == list(whole)[start:]
    assert len(rest) == len(whole)


def test_an_epoch_has_each_clip_once_and_epochs_differ():
    refs = [ref for batch in TrainSampler(100, 2, 10) for ref in batch]
    first, second = refs[:100], refs[100:]
    assert sorted(r.index for r in first) == sorted(r.index for r in second) == list(range(100))
    assert [r.index for r in first] != [r.index for r in second]
    assert {r.epoch for r in first} == {0} and {r.epoch for r in second} == {1}


def test_seeds_give_different_orders():
    assert list(TrainSampler(100, 1, 10, seed=0)) != list(TrainSampler(100, 1, 10, seed=1))


def test_weighted_drawing_matches_the_weights():
    weights = np.array([1.0, 2.0, 4.0, 8.0])
    first = np.array([weighted_epoch_order(weights, 1, 0, epoch)[0] for epoch in range(20000)])
    share = np.bincount(first, minlength=4) / len(first)
    # The first draw falls on a clip with exactly its share of the weight; 4 standard errors.
    expected = weights / weights.sum()
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / len(first)))


def test_weighted_drawing_is_without_replacement():
    order = weighted_epoch_order(np.random.default_rng(0).random(500) + 0.01, 200, 3, 1)
    assert len(set(order)) == 200


def test_class_balancing_weights_are_the_sum_of_inverse_class_counts():
    assert class_balancing_weights(np.array([1, 2, 1, 2]), np.array([0, 0, 1, 0, 1, 2]), 3).tolist() == [1 / 3, 1 / 3 + 1 / 2, 1 / 3, 1 / 2 + 1]
