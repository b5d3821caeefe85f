"""Samplers: exactness, independence of the number of ranks, and going on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.loading.samplers import (
    EvalSampler,
    Order,
    TrainSampler,
    WholeEpochsSampler,
    class_balancing_weights,
    times_before,
    weighted_epoch_draws,
    weighted_epoch_order,
)
from datamodules.types import LoaderConfig


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


@given(count=st.integers(0, 60), batch=st.integers(1, 9), ranks=st.integers(1, 4), epochs=st.integers(1, 3))
def test_what_is_fitted_in_one_go_has_each_clip_once_an_epoch_for_any_number_of_ranks(count, batch, ranks, epochs):
    samplers = [WholeEpochsSampler(Order(count), epochs, batch, rank=r, ranks=ranks) for r in range(ranks)]
    seen = sorted((ref.epoch, ref.index) for sampler in samplers for refs in sampler for ref in refs)
    assert seen == [(epoch, index) for epoch in range(epochs) for index in range(count)]
    assert all(len(sampler) == len(list(sampler)) for sampler in samplers)
    assert all(0 < len(refs) <= batch for sampler in samplers for refs in sampler)


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
    assert class_balancing_weights(np.array([1, 2, 1, 2]), np.array([0, 0, 1, 0, 1, 2]), 3).tolist() == [
        1 / 3,
        1 / 3 + 1 / 2,
        1 / 3,
        1 / 2 + 1,
    ]


def test_weighted_epochs_are_the_same_for_one_two_and_three_ranks_and_match_the_weights():
    """AudioSet's sampling: of 600 clips with the weights of their classes, 120 an epoch without replacement.

    How often a clip is drawn is compared with an independent sampler (NumPy's `choice` without replacement).
    """
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.geometric(0.3, 600) - 1, 9)
    weights = class_balancing_weights(np.ones(600, dtype=np.int64), labels, 10)
    epochs, draws, batch = 400, 120, 12
    counts = {}
    for ranks in (1, 2, 3):
        options = {"weights": weights, "draws": draws, "seed": 5}
        samplers = [TrainSampler(600, epochs, batch, rank=r, ranks=ranks, **options) for r in range(ranks)]
        drawn = [ref.index for step in zip(*samplers, strict=True) for refs in step for ref in refs]
        counts[ranks] = drawn
    assert counts[1] == counts[2] == counts[3]

    per_class = np.bincount(labels[counts[1]], minlength=10) / epochs
    independent = np.zeros(10)
    for _ in range(epochs):
        picked = rng.choice(600, draws, replace=False, p=weights / weights.sum())
        independent += np.bincount(labels[picked], minlength=10) / epochs
    # Both are means of 400 epochs; a class's draws of an epoch have a variance below their mean.
    assert np.all(np.abs(per_class - independent) < 5 * np.sqrt(2 * per_class.clip(0.1) / epochs))
    # Without weights the commonest class would be drawn about 36 times an epoch, and the rarest once or twice.
    assert per_class.max() < 2.5 * per_class[labels[np.argmax(weights)]] + 20


@given(ranks=st.integers(1, 3), start=st.integers(0, 30))
def test_weighted_sampling_goes_on_exactly_on_every_rank(ranks, start):
    weights = np.linspace(0.1, 5, 200)
    for rank in range(ranks):
        options = {"rank": rank, "ranks": ranks, "seed": 3, "weights": weights, "draws": 60}
        whole = list(TrainSampler(200, 6, 12, **options))
        assert list(TrainSampler(200, 6, 12, start=start, **options)) == whole[start:]


@given(count=st.integers(0, 60), batch=st.integers(1, 9), ranks=st.integers(1, 4), views=st.integers(1, 4))
def test_each_view_of_each_clip_is_evaluated_once(count, batch, ranks, views):
    samplers = [EvalSampler(count, batch, rank=r, ranks=ranks, views=views) for r in range(ranks)]
    seen = sorted((ref.index, ref.view) for sampler in samplers for refs in sampler for ref in refs)
    assert seen == [(i, v) for i in range(count) for v in range(views)]
    assert all(len(sampler) == len(list(sampler)) for sampler in samplers)


# --- With replacement ------------------------------------------------------------------------------------------------


def test_draws_with_replacement_are_distributed_as_torchs_multinomial():
    """Each clip's count, and how many clips an epoch leaves out, over 2000 epochs; 5 standard errors."""
    epochs, draws = 2000, 40
    weights = np.random.default_rng(0).exponential(size=20)
    torch.manual_seed(0)
    theirs = torch.multinomial(torch.from_numpy(weights).expand(epochs, -1), draws, replacement=True).numpy()
    ours = np.stack([weighted_epoch_draws(weights, draws, 3, epoch) for epoch in range(epochs)])
    assert ours.shape == theirs.shape
    share = weights / weights.sum()
    error = np.sqrt(share * (1 - share) / ours.size)
    for drawn in (ours, theirs):
        assert np.all(np.abs(np.bincount(drawn.flatten(), minlength=20) / ours.size - share) < 5 * error)
    left_out = [20 - np.array([len(set(epoch)) for epoch in drawn]) for drawn in (ours, theirs)]
    difference = left_out[0].mean() - left_out[1].mean()
    assert abs(difference) < 5 * np.sqrt((left_out[0].var() + left_out[1].var()) / epochs)
    assert left_out[0].mean() > 0.5


def test_draws_with_replacement_are_independent_of_their_place_and_of_the_epoch():
    weights = np.array([1.0, 3.0])
    ours = np.stack([weighted_epoch_draws(weights, 2, 0, epoch) for epoch in range(4000)])
    assert np.all(np.abs(ours.mean(axis=0) - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 4000))
    flat = ours.flatten()
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 5 / np.sqrt(len(flat))


@given(st.lists(st.integers(0, 9), max_size=60))
def test_times_before_counts_a_clips_earlier_places(order):
    expected = [order[:i].count(clip) for i, clip in enumerate(order)]
    assert times_before(np.array(order, dtype=np.int64)).tolist() == expected


@given(ranks=st.integers(1, 3), start=st.integers(0, 30), draws=st.integers(12, 300))
def test_draws_with_replacement_are_the_same_for_any_number_of_ranks_and_go_on_exactly(ranks, start, draws):
    """More draws than clips are allowed; the k-th draw of a clip in an epoch is its view k on whichever rank."""
    options = {"seed": 3, "weights": np.linspace(0.1, 5, 50), "draws": draws, "replacement": True}
    whole = list(TrainSampler(50, 3, 12, **options))
    assert len(whole) == 3 * (draws // 12)
    parts = [list(TrainSampler(50, 3, 12, rank=r, ranks=ranks, start=start, **options)) for r in range(ranks)]
    assert [[ref for refs in step for ref in refs] for step in zip(*parts, strict=True)] == whole[start:]
    refs = [ref for batch in whole for ref in batch]
    assert len(set(refs)) == len(refs), "no clip comes twice alike"


def test_without_replacement_every_view_is_the_first():
    for options in ({}, {"weights": np.linspace(1, 2, 30), "draws": 30}):
        assert {ref.view for batch in TrainSampler(30, 2, 5, **options) for ref in batch} == {0}


@pytest.mark.parametrize(
    ("weighted_draws", "weighted_replacement", "draws"),
    [(0, False, 100), (30, False, 30), (300, False, 100), (-1, False, 100), (-1, True, 100), (300, True, 300)],
)
def test_an_epoch_draws_as_many_clips_as_wanted_but_none_twice_without_replacement(
    weighted_draws, weighted_replacement, draws
):
    loader = LoaderConfig(weighted_draws=weighted_draws, weighted_replacement=weighted_replacement)
    assert loader.draws(100) == draws
    weights = np.ones(100) if weighted_draws else None
    sampler = TrainSampler(100, 1, 10, weights=weights, draws=loader.draws(100), replacement=weighted_replacement)
    assert sampler.steps_per_epoch == len(list(sampler)) == draws // 10
