from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.networks.masking import (
    gather_tokens,
    kept,
    random_masking,
    random_places,
    random_places_2d,
    scatter_tokens,
)


@pytest.mark.parametrize(
    ("length", "ratio", "expected"),
    [(512, 0.8, 102), (784, 0.8, 156), (5, 0.8, 1), (10, 0.9, 1), (64, 0.2, 51), (8, 0.2, 6), (7, 0.0, 7), (3, 0.9, 1)],
)
def test_kept_counts(length, ratio, expected):
    assert kept(length, ratio) == expected


@given(st.integers(1, 5000), st.integers(0, 99))
def test_kept_is_the_exact_share_rounded_down_but_at_least_one(length, percent):
    assert kept(length, percent / 100) == max(length * (100 - percent) // 100, 1)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_impossible_ratio_is_an_error(ratio):
    with pytest.raises(ValueError, match="mask ratio"):
        kept(10, ratio)


@given(st.integers(1, 60), st.floats(0, 0.95), st.integers(-(2**62), 2**62))
def test_visible_and_masked_places_are_a_partition(length, ratio, key):
    keep, masked = random_masking(torch.tensor([key, key + 1]), "mask", length, ratio)
    for clip in range(2):
        assert sorted(keep[clip].tolist() + masked[clip].nonzero()[:, 0].tolist()) == list(range(length))


def test_each_place_is_kept_equally_often():
    keep = random_places(torch.arange(20000), "mask", 10, 0.8)
    share = torch.bincount(keep.flatten(), minlength=10) / 20000
    assert (share - 0.2).abs().max() < 0.015  # 5 standard deviations of a binomial share


def test_places_depend_on_the_clip_and_the_purpose_and_not_on_its_neighbours():
    keys = torch.tensor([5, 6, 7])
    both = random_places(keys, "audio", 100, 0.5)
    assert torch.equal(both[1:2], random_places(keys[1:2], "audio", 100, 0.5))
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both, random_places(keys, "video", 100, 0.5))


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 0.9), st.floats(0, 0.9))
def test_2d_masking_keeps_whole_rows_and_columns(rows, columns, ratio_rows, ratio_columns):
    (places,) = random_places_2d(torch.tensor([3]), "mask", (rows, columns), (ratio_rows, ratio_columns))
    seen_rows, seen_columns = set((places // columns).tolist()), set((places % columns).tolist())
    assert len(seen_rows) == kept(rows, ratio_rows) and len(seen_columns) == kept(columns, ratio_columns)
    assert sorted(places.tolist()) == sorted(r * columns + c for r in seen_rows for c in seen_columns)


def test_scatter_undoes_gather_and_fills_the_rest():
    tokens = torch.randn(2, 9, 4)
    places = random_places(torch.tensor([1, 2]), "mask", 9, 0.5)
    fill = torch.full((4,), 7.0)
    filled = scatter_tokens(gather_tokens(tokens, places), places, fill, 9)
    for clip in range(2):
        for place in range(9):
            expected = tokens[clip, place] if place in places[clip] else fill
            assert torch.equal(filled[clip, place], expected)
