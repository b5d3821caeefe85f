"""keyed: the numbers are uniform, independent, the same everywhere, and a function of the clip's key alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from datamodules.keyed import beta, normal, stable_hash, uniform

# Computed once with this code, for the seed keys of `test_golden_numbers`.
GOLDEN_HASH = -5995295303269975859
GOLDEN_UNIFORM = [
    [0.4584900736808777, 0.7444419860839844],
    [0.09770512580871582, 0.3247970938682556],
    [0.39424455165863037, 0.21513676643371582],
    [0.34004485607147217, 0.1713152527809143],
]
GOLDEN_BETA = [0.46590250730514526, 0.6676236987113953, 0.41671764850616455, 0.43930286169052124]

KEYS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8)


def consecutive_keys(count: int) -> torch.Tensor:
    """The hardest keys: they differ in few bits."""
    return torch.arange(count, dtype=torch.int64)


def hashed_keys(count: int) -> torch.Tensor:
    return torch.tensor([stable_hash(0, 0, clip) for clip in range(count)])


@pytest.mark.parametrize("make_keys", [consecutive_keys, hashed_keys])
def test_numbers_are_uniform_over_clips_and_within_a_clip(make_keys):
    over_clips = uniform(make_keys(20000), "test", 1).flatten().numpy()
    within_clip = uniform(make_keys(1), "test", 20000).flatten().numpy()
    for numbers in (over_clips, within_clip):
        assert stats.kstest(numbers, "uniform").pvalue > 1e-3
        assert numbers.min() >= 0 and numbers.max() < 1


def test_pairs_of_neighbouring_numbers_fill_the_square_evenly():
    numbers = uniform(consecutive_keys(200), "test", 500).double().numpy()
    for first, second in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        counts = np.histogram2d(first.ravel(), second.ravel(), bins=16, range=[[0, 1], [0, 1]])[0]
        assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize(("a", "b"), [(10, 10), (1, 1), (2, 5)])
def test_beta_has_the_beta_distribution(a, b):
    numbers = beta(consecutive_keys(20000), "test", a, b).numpy()
    assert stats.kstest(numbers, stats.beta(a, b).cdf).pvalue > 1e-3


def test_different_purposes_are_uncorrelated():
    keys = consecutive_keys(20000)
    purposes = ["audio mask", "video mask", "audio roll", "audio roll 2"]
    correlation = np.corrcoef([uniform(keys, purpose, 1).flatten().numpy() for purpose in purposes])
    off_diagonal = correlation[~np.eye(len(purposes), dtype=bool)]
    assert np.abs(off_diagonal).max() < 4 / np.sqrt(20000)


@given(KEYS, st.randoms(use_true_random=False))
def test_a_clips_numbers_do_not_depend_on_its_batch(keys, random):
    order = list(range(len(keys)))
    random.shuffle(order)
    keys = torch.tensor(keys, dtype=torch.int64)
    assert torch.equal(uniform(keys[order], "test", 3, 2), uniform(keys, "test", 3, 2)[order])
    assert torch.equal(beta(keys[order], "test", 3, 4), beta(keys, "test", 3, 4)[order])
    assert torch.equal(uniform(keys[:1], "test", 3), uniform(keys, "test", 3)[:1])


@given(KEYS)
def test_asking_for_more_numbers_keeps_the_first_ones(keys):
    keys = torch.tensor(keys, dtype=torch.int64)
    assert torch.equal(uniform(keys, "test", 9)[:, :4], uniform(keys, "test", 4))


def test_no_shape_is_one_number_a_clip():
    assert uniform(consecutive_keys(5), "test").shape == (5,)


def test_an_empty_batch_has_no_numbers():
    assert uniform(consecutive_keys(0), "test", 2, 3).shape == (0, 2, 3)


def splitmix64(key: int, purpose: str, position: int) -> float:
    """`uniform` in Python's own integers: the reference for sign, shift and wrap-around."""
    mask = (1 << 64) - 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    stream = mix((key ^ stable_hash(purpose)) & mask)
    return (mix((stream + (position + 1) * 0x9E3779B97F4A7C15) & mask) >> 40) / 2**24


@given(KEYS)
def test_the_numbers_are_splitmix64s(keys):
    numbers = uniform(torch.tensor(keys, dtype=torch.int64), "test", 3)
    assert numbers.tolist() == [[splitmix64(key, "test", i) for i in range(3)] for key in keys]


def test_golden_numbers():
    """If these change, masks and augmentations are no longer those of older runs."""
    keys = torch.tensor([0, 1, -1, 2**63 - 1])
    assert stable_hash("seed", 1, "clip") == GOLDEN_HASH
    assert uniform(keys, "golden", 2).tolist() == GOLDEN_UNIFORM
    assert beta(keys, "golden", 10, 10).tolist() == GOLDEN_BETA


def test_normal_numbers_are_normal_over_clips_and_within_a_clip():
    for numbers in (normal(consecutive_keys(20000), "test", 1), normal(consecutive_keys(1), "test", 100, 200)):
        assert stats.kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
