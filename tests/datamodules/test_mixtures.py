"""Mixtures of datasets: which clips of which of them each step reads, and what of them a method sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.errors import DataError
from datamodules.joined import Joined
from datamodules.loading.mixture import MixtureSampler, PartRef, evenly, quotas, scheduled, shares
from datamodules.loading.samplers import Order
from datamodules.parts import PartSpec
from datamodules.types import AudioInputs, Inputs, TextInputs, VideoInputs

WEIGHTS = st.lists(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0, 7.0, 10.0]), min_size=2, max_size=5)


@given(weights=WEIGHTS, batch=st.integers(1, 40), steps=st.integers(1, 30))
def test_every_batch_is_whole_and_of_any_steps_each_part_has_its_share(weights, batch, steps):
    counts = shares(weights, batch, steps)
    wanted = np.array([float(quota) for quota in quotas(weights, batch)])
    assert counts.shape == (steps, len(weights))
    assert (counts.sum(1) == batch).all() and (counts >= 0).all()
    so_far = counts.cumsum(0) - np.arange(1, steps + 1)[:, None] * wanted
    assert np.abs(so_far).max() <= (len(weights) - 1) / 2 + 1e-6
    assert (counts[:, wanted % 1 == 0] == wanted[wanted % 1 == 0]).all(), "a whole share is the same in each batch"


@given(weights=WEIGHTS, batch=st.integers(1, 40))
def test_the_shares_of_an_epoch_are_exact_where_they_are_whole_numbers(weights, batch):
    steps = int(np.lcm.reduce([quota.denominator for quota in quotas(weights, batch)]))
    assert shares(weights, batch, steps).sum(0).tolist() == [quota * steps for quota in quotas(weights, batch)]


@given(weights=WEIGHTS, steps=st.integers(1, 60), epochs=st.integers(1, 3), seed=st.integers(0, 3))
def test_steps_of_one_part_are_exactly_as_many_as_its_weight_says(weights, steps, epochs, seed):
    expected = np.bincount(evenly(weights, steps * epochs), minlength=len(weights))
    for schedule in ("weighted", "task_by_task"):
        chosen = scheduled(schedule, weights, steps, epochs, seed)
        assert np.bincount(chosen, minlength=len(weights)).tolist() == expected.tolist()
    assert (np.diff(scheduled("task_by_task", weights, steps, epochs, seed)) >= 0).all()
    for schedule in ("uniform", "alternating"):
        chosen = scheduled(schedule, weights, steps, epochs, seed)
        every = np.bincount(chosen, minlength=len(weights))
        assert len(chosen) == steps * epochs and every.max() - every.min() <= 1
    assert scheduled("alternating", weights, steps, 1, seed).tolist() == [step % len(weights) for step in range(steps)]


def test_polyvit_s_steps_are_a_permutation_of_what_its_single_task_recipes_take():
    """scenic `configs/polyvit_all.py`: ImageNet, CIFAR-10 and -100, Pets, RESISC45, Kinetics, Moments, AudioSet,
    VGGSound."""
    steps = [20_000, 10_000, 10_000, 500, 2_500, 100_680, 123_640, 15_900, 134_700]
    chosen = scheduled("weighted", [float(n) for n in steps], sum(steps), 1, seed=0)
    assert np.bincount(chosen).tolist() == steps
    assert (chosen != scheduled("weighted", [float(n) for n in steps], sum(steps), 1, seed=1)).any()
    assert np.bincount(chosen[: len(chosen) // 2])[-1] == pytest.approx(steps[-1] / 2, rel=0.02), "in a random order"


def test_a_random_order_is_another_one_in_each_epoch_and_by_each_seed():
    one = scheduled("weighted", [1.0, 1.0], 50, 2, 0)
    assert one[:50].tolist() != one[50:].tolist()
    assert one.tolist() != scheduled("weighted", [1.0, 1.0], 50, 2, 1).tolist()
    assert one.tolist() == scheduled("weighted", [1.0, 1.0], 50, 2, 0).tolist()
    assert one.tolist() == scheduled("uniform", [5.0, 1.0], 50, 2, 0).tolist(), "whatever the weights"


# --- the clips


ORDERS = [Order(12, 3), Order(5, 4), Order(9, 5, weights=np.linspace(1, 3, 9), draws=14, replacement=True)]


def table(of_one: bool) -> np.ndarray:
    """Rows of three parts in each of 25 steps, divisible by 1, 2 and 3."""
    if of_one:
        return np.eye(3, dtype=np.int64)[scheduled("weighted", [3.0, 1.0, 2.0], 25, 1, 0)] * [12, 6, 18]
    return np.tile([12, 6, 18], (25, 1))


@settings(max_examples=20)
@given(ranks=st.sampled_from([1, 2, 3]), start=st.integers(0, 25), of_one=st.booleans())
def test_every_step_is_the_same_clips_on_one_two_and_three_ranks_and_from_any_step_on(ranks, start, of_one):
    whole = [sorted(refs) for refs in MixtureSampler(ORDERS, table(of_one))]
    each = [MixtureSampler(ORDERS, table(of_one), rank=r, ranks=ranks, start=start) for r in range(ranks)]
    steps = list(zip(*each, strict=True))
    assert [sorted(ref for refs in step for ref in refs) for step in steps] == whole[start:]
    for step, counts in zip(steps, table(of_one)[start:], strict=True):
        shares_of_ranks = [[sum(ref.part == part for ref in refs) for part in range(3)] for refs in step]
        assert shares_of_ranks == [(counts // ranks).tolist()] * ranks, "as many of each part on each rank"
    assert all(len(sampler) == 25 for sampler in each)


def test_each_part_is_gone_through_in_its_own_epochs_every_clip_as_often_as_any_other():
    refs = [ref for step in MixtureSampler(ORDERS[:2], table(False)[:, :2]) for ref in step]
    for part, order in enumerate(ORDERS[:2]):
        mine = [ref.clip for ref in refs if ref.part == part]
        often = Counter(clip.index for clip in mine)
        assert len(often) == len(order) and max(often.values()) - min(often.values()) <= 1
        passes = [mine[at : at + len(order)] for at in range(0, len(mine), len(order))]
        assert [clip.epoch for clip in mine] == [number for number, one in enumerate(passes) for _ in one]
        assert len({tuple(clip.index for clip in one) for one in passes}) > 1, "in another order each time"
    assert len(set(refs)) == len(refs), "no clip comes twice alike"


def test_clips_that_do_not_divide_over_the_ranks_are_refused():
    with pytest.raises(ValueError, match="3 clips of a part do not divide over 2 processes"):
        MixtureSampler(ORDERS[:2], np.array([[4, 3]]), ranks=2)


def test_a_sampler_of_one_part_reads_what_a_training_on_it_alone_reads():
    from datamodules.loading.samplers import TrainSampler

    alone = [refs for refs in TrainSampler(12, 4, 4, seed=3)]
    parted = [refs for refs in MixtureSampler([Order(12, 3)], np.full((12, 1), 4))]
    assert parted == [[PartRef(0, ref) for ref in refs] for refs in alone]


# --- what a method sees


AV = PartSpec(
    "one", Inputs(AudioInputs(frames=4, mel_bins=3), VideoInputs(frames=2, size=2)), "av", 5, False, "label", 2
)
A = replace(AV, name="two", inputs=replace(AV.inputs, video=None), modality="a", num_classes=3, label="label_two")
UNLABELLED = replace(A, name="three", label="")


def of_part(part: PartSpec, clips: int) -> dict:
    """Clips of ones."""
    from datamodules.streams.example import example_batch

    batch = example_batch(part.inputs, part.num_classes, clips, "cpu")
    return {key: value if isinstance(value, list) else torch.ones_like(value) for key, value in batch.items()}


def test_what_a_part_lacks_is_zeros_and_a_mask():
    joined = Joined([AV, A, UNLABELLED], mixes=True)
    batch = joined({0: of_part(AV, 2), 1: of_part(A, 1), 2: of_part(UNLABELLED, 3)})
    assert batch["part"].tolist() == [0, 0, 1, 2, 2, 2]
    assert batch["audio"].shape == (6, 1, 4, 3) and batch["audio"].min() == 1 and batch["audio_there"].all()
    assert batch["video"].shape == (6, 3, 2, 2, 2) and batch["video_there"].tolist() == [True] * 2 + [False] * 4
    assert batch["video"].flatten(1).sum(1).tolist() == [24.0, 24.0, 0, 0, 0, 0]
    assert batch["label"].sum(1).tolist() == [5.0, 5.0, 0, 0, 0, 0]
    assert batch["label_there"].tolist() == [True] * 2 + [False] * 4
    assert batch["label_two"].sum(1).tolist() == [0, 0, 3.0, 0, 0, 0]
    assert batch["label_two_there"].tolist() == [False, False, True, False, False, False]
    assert batch["clip_id"] == ["0", "1", "0", "0", "1", "2"]


def test_all_keys_are_there_whatever_parts_a_batch_has():
    joined = Joined([AV, A, UNLABELLED], mixes=True)
    whole = joined({0: of_part(AV, 1), 1: of_part(A, 1), 2: of_part(UNLABELLED, 1)})
    for place, part in enumerate((AV, A, UNLABELLED)):
        batch = joined({place: of_part(part, 2)})
        assert batch.keys() == whole.keys()
        assert {key: value.shape[1:] for key, value in batch.items() if key != "clip_id"} == {
            key: value.shape[1:] for key, value in whole.items() if key != "clip_id"
        }


def test_a_batch_of_one_part_is_as_if_it_were_alone_and_says_which_it_is():
    joined = Joined([AV, replace(A, label="label"), UNLABELLED], mixes=False)
    batch = joined({1: of_part(A, 2)})
    assert batch["part_name"] == "two" and batch["part"].tolist() == [1, 1]
    assert "video" not in batch and batch["label"].shape == (2, 3) and batch["label_there"].all()
    unlabelled = joined({2: of_part(UNLABELLED, 2)})
    assert not unlabelled["label"].any() and not unlabelled["label_there"].any()


def test_streams_of_one_name_and_two_shapes_cannot_be_in_one_batch():
    longer = replace(A, inputs=replace(A.inputs, audio=AudioInputs(frames=6, mel_bins=3), text=TextInputs()))
    with pytest.raises(DataError, match=r"one and two .* audio is \[1, 4, 3\] .* and \[1, 6, 3\] .*data.inputs"):
        Joined([AV, longer], mixes=True)
    Joined([AV, longer], mixes=False)
