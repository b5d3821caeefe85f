"""RandAugment: timm's changes, drawn by the clip's key, alike in all frames and in training alone."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.streams.frames import FramesStream
from datamodules.streams.rand_augment import rand_augment
from datamodules.types import VideoInputs

XKD = "rand-m7-n4-mstd0.5-inc1"
FRAMES = torch.randint(0, 256, (1, 24, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_clip_is_changed_by_its_key_in_all_frames_alike():
    still = FRAMES.expand(3, -1, -1, -1)
    found = {key: rand_augment(still, key, XKD) for key in range(-2, 60)}
    for changed in found.values():
        assert changed.dtype == torch.uint8 and changed.shape == still.shape
        assert torch.equal(changed[0], changed[2])
    assert torch.equal(found[5], rand_augment(still, 5, XKD))
    as_it_was = sum(torch.equal(changed, still) for changed in found.values())
    assert 0 < as_it_was < 20  # of 62; none of four changes is done in 1 of 16, and some change nothing
    assert len({changed.numpy().tobytes() for changed in found.values()}) > 40


def test_magnitude_and_number_are_those_that_are_asked_for():
    def change(how: str) -> float:
        return float(np.mean([(rand_augment(FRAMES, key, how).float() - FRAMES).abs().mean() for key in range(100)]))

    assert 0 < change("rand-m1-n1-inc1") < change("rand-m9-n1-inc1") < change("rand-m9-n4-inc1")


def test_no_other_random_number_depends_on_it():
    random.seed(1)
    np.random.seed(2)
    expected = random.random(), np.random.rand()
    random.seed(1)
    np.random.seed(2)
    rand_augment(FRAMES, 3, XKD)
    assert (random.random(), np.random.rand()) == expected


def test_what_timm_cannot_read_is_named():
    with pytest.raises(DataError, match="rand_augment=auto-m7: timm cannot read it"):
        rand_augment(FRAMES, 0, "auto-m7")


def test_frames_are_changed_in_training_alone():
    def read(how: str, evaluation: bool) -> torch.Tensor:
        stream = FramesStream("video", VideoInputs(frames=1, size=24, train_size=24, rand_augment=how))
        clip = SimpleNamespace(
            evaluation=evaluation, moment=SimpleNamespace(key=7, clip_id="a"), number=0,
            stretch_of_pictures=lambda seconds: (0.0, seconds), frames=lambda times, size: FRAMES[:, :size, :size],
        )  # fmt: skip
        return stream.read(clip)[""]

    assert torch.equal(read(XKD, True), read("", False)) and not torch.equal(read(XKD, False), read("", False))
