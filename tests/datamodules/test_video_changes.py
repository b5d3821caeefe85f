"""Jitter, blur and cut-out of pictures: torchvision's numbers, and what stays as it is."""

from __future__ import annotations

import random

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from timm.data.random_erasing import RandomErasing

from datamodules.errors import DataError
from datamodules.keyed import uniform
from datamodules.streams.frames import FramesTransform
from datamodules.streams.video_changes import blur, cutout, erase, jitter
from datamodules.types import AugmentConfig, VideoInputs

KEYS = torch.arange(6) * 7919 + 3


def pixels(size: int = 40) -> torch.Tensor:
    return torch.rand(6, 3, 2, size, size, generator=torch.Generator().manual_seed(0))


def test_jitter_is_torchvisions_one_after_the_other():
    most = [0.4, 0.4, 0.4, 0.2]
    by = (2 * uniform(KEYS, "jitter", 4) - 1) * torch.tensor(most)
    for clip, got, (b, c, s, h) in zip(pixels(), jitter(pixels(), KEYS, most), by.tolist(), strict=True):
        frames = clip.transpose(0, 1)
        for change, value in (
            (TF.adjust_brightness, 1 + b), (TF.adjust_contrast, 1 + c), (TF.adjust_saturation, 1 + s),
            (TF.adjust_hue, h),
        ):  # fmt: skip
            frames = change(frames, value)
        torch.testing.assert_close(got.transpose(0, 1), frames, rtol=0, atol=1e-3)


def test_blur_is_torchvisions_of_a_share_of_the_clips():
    sigma, chosen = 0.1 + 1.9 * uniform(KEYS, "blur sigma"), uniform(KEYS, "blur") < 0.5
    assert 0 < chosen.sum() < 6
    for clip, got, s, there in zip(pixels(), blur(pixels(), KEYS, 0.5), sigma.tolist(), chosen, strict=True):
        expected = TF.gaussian_blur(clip, [5, 5], [s, s]) if there else clip
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_cutout_takes_one_small_block_out_of_all_frames_alike():
    video = pixels(60) + 1
    gone = (cutout(video, KEYS, 20) != video).all(dim=1)
    assert gone.any(dim=(1, 2, 3)).sum() >= 4 and torch.equal(gone[:, 0], gone[:, 1])
    for block in gone[:, 0]:
        rows, columns = block.any(1), block.any(0)
        assert rows.sum() <= 20 and columns.sum() <= 20 and torch.equal(block, rows[:, None] & columns)


def test_a_box_of_some_clips_is_erased_as_often_and_as_large_as_timm_s():
    keys, video = torch.arange(400), torch.full((400, 3, 2, 40, 40), 9.0)
    got = erase(video, keys, 0.5)
    gone = (got != video).all(dim=1)
    erased = gone.any(dim=(1, 2, 3))
    assert 160 < erased.sum() < 240 and torch.equal(gone[:, 0], gone[:, 1])
    for box in gone[erased, 0]:
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns)
    noise = got[gone[:, None].expand_as(got)]
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert not torch.equal(got[erased, :, 0], got[erased, :, 1])  # each frame has noise of its own
    random.seed(0)
    theirs = RandomErasing(1.0, mode="pixel", device="cpu")
    areas = torch.tensor([(theirs(torch.full((3, 40, 40), 9.0)) != 9).float().mean() for _ in range(400)])
    ours = gone[erased, 0].float().mean(dim=(1, 2))
    assert abs(ours.mean() - areas.mean()) < 4 * areas.std() / 20 * 2**0.5
    assert abs(ours.std() - areas.std()) < 0.02


def test_frames_are_changed_in_training_alone():
    augment = AugmentConfig(jitter=[0.4, 0.4, 0.4, 0.2], blur=1.0, cutout=20, erase=0.5)
    transform = FramesTransform(VideoInputs(frames=2, size=40, train_size=40), augment)
    raw = {"": (255 * pixels().permute(0, 2, 3, 4, 1)).byte()}
    plain = FramesTransform(transform.options, AugmentConfig())(raw, KEYS, train=False)[""]
    assert torch.equal(transform(raw, KEYS, train=False)[""], plain)
    assert (transform(raw, KEYS, train=True)[""] - plain).abs().mean() > 0.1


def test_jitter_that_is_not_four_numbers_is_named():
    with pytest.raises(DataError, match=r"augment\.jitter=\[0\.4\]: give brightness"):
        jitter(pixels(), KEYS, [0.4])
