"""video: normalisation, crop and flip against torchvision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from datamodules.types import VideoInputs
from datamodules.video import horizontal_flip, normalise, random_boxes, random_resized_crop

INPUTS = VideoInputs()


def pictures(count: int, frames: int = 2, height: int = 40, width: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, frames, height, width, 3), dtype=torch.uint8, generator=generator)


def video(count: int, **shape: int) -> torch.Tensor:
    return normalise(pictures(count, **shape), INPUTS.mean, INPUTS.std)


def test_normalise_equals_torchvision():
    frames = pictures(3)
    channels_first = TF.to_dtype(frames.permute(0, 1, 4, 2, 3), torch.float32, scale=True)
    reference = TF.normalize(channels_first, INPUTS.mean, INPUTS.std).permute(0, 2, 1, 3, 4)
    got = normalise(frames, INPUTS.mean, INPUTS.std)
    assert got.is_contiguous() and got.dtype == torch.float32
    torch.testing.assert_close(got, reference, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 64), (90, 33)])
@pytest.mark.parametrize("size", [16, 32, 40, 56])
def test_crop_equals_torchvisions_crop_and_resize(height, width, size):
    key = torch.arange(12)
    clips = video(12, height=height, width=width)
    out = random_resized_crop(clips, key, size, 0.1)
    for clip, box, got in zip(clips, random_boxes(key, height, width, 0.1).tolist(), out, strict=True):
        reference = TF.resized_crop(clip, *box, [size, size], antialias=True)
        torch.testing.assert_close(got, reference, rtol=0, atol=1e-4)


def test_crop_at_scale_one_resizes_a_square_whole():
    key = torch.arange(200)
    assert random_boxes(key, 40, 40, 1.0).unique(dim=0).tolist() == [[0, 0, 40, 40]]
    clips = video(4)
    reference = TF.resize(clips.flatten(1, 2), [24, 24], antialias=True).view(4, 3, 2, 24, 24)
    torch.testing.assert_close(random_resized_crop(clips, key[:4], 24, 1.0), reference, rtol=0, atol=1e-5)


def test_crop_at_scale_one_and_the_same_size_copies_exactly():
    clips = video(4)
    assert torch.equal(random_resized_crop(clips, torch.arange(4), 40, 1.0), clips)


def test_crop_does_not_alias():
    """A grid of single pixels is grey when seen from afar; without antialiasing it would be a pattern."""
    grid = torch.zeros(1, 3, 1, 64, 64)
    grid[..., ::2, ::2] = 1.0
    small = random_resized_crop(grid, torch.tensor([0]), 16, 1.0)[..., 2:-2, 2:-2]
    torch.testing.assert_close(small, torch.full_like(small, 0.25))


def test_crop_is_the_same_for_all_frames_of_a_clip():
    still = video(6, frames=1).expand(-1, -1, 3, -1, -1)
    out = random_resized_crop(still, torch.arange(6), 20, 0.2)
    assert torch.equal(out[:, :, :1].expand_as(out), out)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (100, 320), (320, 100)])
def test_boxes_are_distributed_as_torchvisions(height, width):
    torch.manual_seed(0)
    count, scale_min = 2000, 0.2
    ours = random_boxes(torch.arange(count), height, width, scale_min).numpy()
    picture = torch.zeros(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(picture, [scale_min, 1.0], [3 / 4, 4 / 3]) for _ in range(count)], dtype=np.int64
    )
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    for derived in (lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3] / box[:, 2]):
        assert stats.ks_2samp(derived(ours), derived(theirs)).pvalue > 1e-3


@given(st.integers(2, 300), st.integers(2, 300), st.floats(0.01, 1.0))
@settings(deadline=None)
def test_boxes_lie_within_the_picture_and_keep_to_their_limits(height, width, scale_min):
    top, left, box_height, box_width = random_boxes(torch.arange(50), height, width, scale_min).unbind(1)
    assert (top >= 0).all() and (left >= 0).all() and (box_height > 0).all() and (box_width > 0).all()
    assert (top + box_height <= height).all() and (left + box_width <= width).all()
    # A side is rounded by at most half a pixel.
    assert ((box_width - 0.5) / (box_height + 0.5) <= 4 / 3).all()
    assert ((box_width + 0.5) / (box_height - 0.5) >= 3 / 4).all()


def test_boxes_reach_every_edge():
    top, left, box_height, box_width = random_boxes(torch.arange(500), 6, 6, 0.3).unbind(1)
    smaller = (box_height < 6) & (box_width < 6)
    for start, length in ((top, box_height), (left, box_width)):
        assert start[smaller].min() == 0 and (start + length)[smaller].max() == 6
        assert set(start[smaller & (length == 5)].tolist()) == {0, 1}


def test_a_picture_too_long_for_any_try_gives_its_largest_central_box():
    boxes = random_boxes(torch.arange(20), 30, 300, 0.9)
    assert boxes.unique(dim=0).tolist() == [[0, 130, 30, 40]]
    assert random_boxes(torch.arange(3), 300, 30, 0.9)[0].tolist() == [130, 0, 40, 30]


def test_flip_mirrors_half_of_the_clips_with_all_their_frames():
    clips = video(1, height=4, width=6).expand(2000, -1, -1, -1, -1)
    out = horizontal_flip(clips, torch.arange(2000))
    mirrored = (out == TF.horizontal_flip(clips)).flatten(1).all(dim=1)
    kept = (out == clips).flatten(1).all(dim=1)
    assert torch.equal(mirrored, ~kept)
    assert stats.binomtest(int(mirrored.sum()), 2000, 0.5).pvalue > 1e-3


@given(st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_augmentation_of_a_clip_depends_on_its_key_alone(order):
    clips, key = video(6), torch.arange(6)
    assert torch.equal(horizontal_flip(clips[order], key[order]), horizontal_flip(clips, key)[order])
    assert torch.equal(random_boxes(key[order], 40, 40, 0.2), random_boxes(key, 40, 40, 0.2)[order])
    whole = random_resized_crop(clips, key, 24, 0.2)
    torch.testing.assert_close(random_resized_crop(clips[order], key[order], 24, 0.2), whole[order])
    torch.testing.assert_close(random_resized_crop(clips[:1], key[:1], 24, 0.2), whole[:1])


def test_crop_and_flip_are_independent_of_each_other():
    key = torch.arange(4000)
    mark = torch.arange(8.0).expand(4000, 1, 1, 8, 8)
    flipped = horizontal_flip(mark, key)[:, 0, 0, 0, 0] != 0
    boxes = random_boxes(key, 256, 256, 0.2)
    for column in boxes.unbind(1):
        assert abs(np.corrcoef(column.numpy(), flipped.numpy())[0, 1]) < 4 / math.sqrt(4000)


def test_crop_keeps_float32_under_autocast():
    clips = video(3)
    expected = random_resized_crop(clips, torch.arange(3), 24, 0.2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = random_resized_crop(clips, torch.arange(3), 24, 0.2)
    assert torch.equal(got, expected)
