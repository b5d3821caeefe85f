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
