"""video: normalisation, crop, flip and colours against torchvision and colorsys."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from datamodules.keyed import uniform
from datamodules.streams.video import (
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    color_jitter,
    denormalise,
    gray,
    horizontal_flip,
    normalise,
    random_boxes,
    random_resized_crop,
    standardise,
)
from datamodules.types import VideoInputs

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


@pytest.mark.parametrize(
    ("height", "width", "shares"),
    [(256, 256, (0.2, 1.0)), (256, 256, (0.08, 0.4)), (100, 320, (0.2, 1.0)), (320, 100, (0.2, 1.0))],
)
def test_boxes_are_distributed_as_torchvisions(height, width, shares):
    torch.manual_seed(0)
    count = 2000
    ours = random_boxes(torch.arange(count), height, width, *shares).numpy()
    picture = torch.zeros(3, height, width)
    theirs = np.array(
        [RandomResizedCrop.get_params(picture, list(shares), [3 / 4, 4 / 3]) for _ in range(count)], dtype=np.int64
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


# --- Colours ---------------------------------------------------------------------------------------------------------


def colours(count: int, frames: int = 2, size: int = 16) -> torch.Tensor:
    """[count, 3, frames, size, size] pixels 0..1, with greys, black, white and pure colours among them."""
    pixels = torch.rand(count, 3, frames, size, size, generator=torch.Generator().manual_seed(0))
    pixels[:, :, :, 0, :8] = torch.tensor([[i >> b & 1 for i in range(8)] for b in range(3)])[:, None].float()
    pixels[:, :, :, 1] = pixels[:, :1, :, 1]
    return pixels


def each(values: list[float]) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1, 1)


def test_denormalise_undoes_normalise_and_standardise_does_it_again():
    frames = pictures(2)
    pixels = denormalise(normalise(frames, INPUTS.mean, INPUTS.std), INPUTS.mean, INPUTS.std)
    torch.testing.assert_close(pixels, frames.permute(0, 4, 1, 2, 3) / 255, rtol=0, atol=1e-6)
    again = standardise(pixels, INPUTS.mean, INPUTS.std)
    torch.testing.assert_close(again, normalise(frames, INPUTS.mean, INPUTS.std), rtol=0, atol=1e-5)


def test_hue_equals_torchvisions():
    turns = [-0.5, -0.2, -1 / 6, 0.0, 0.07, 0.2, 1 / 3, 0.5]
    clips = colours(len(turns))
    for clip, turn, got in zip(clips, turns, adjust_hue(clips, each(turns)), strict=True):
        reference = TF.adjust_hue(clip.transpose(0, 1), turn).transpose(0, 1)
        torch.testing.assert_close(got, reference, rtol=0, atol=2e-6)


def test_hue_keeps_the_maximum_and_minimum_of_colours_out_of_range():
    clips = 3 * colours(4) - 1
    out = adjust_hue(clips, each([-0.2, 0.1, 0.2, 0.5]))
    torch.testing.assert_close(out.amax(dim=1), clips.amax(dim=1), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.amin(dim=1), clips.amin(dim=1), rtol=0, atol=1e-5)


def test_contrast_equals_torchvisions_of_each_colour_of_each_frame():
    factors = [0.6, 0.9, 1.0, 1.4]
    clips = colours(len(factors))
    got = adjust_contrast(clips, each(factors)).clamp(0, 1)  # torchvision clips
    for clip, factor, frames in zip(clips, factors, got, strict=True):
        torch.testing.assert_close(frames, TF.adjust_contrast(clip[..., None, :, :], factor)[..., 0, :, :])


def test_saturation_multiplies_that_of_colorsys():
    factors = [0.0, 0.6, 1.0, 1.4, 3.0]
    clips = colours(len(factors), frames=1, size=8)
    for clip, factor, got in zip(clips, factors, adjust_saturation(clips, each(factors)), strict=True):
        reference = []
        for pixel in clip.flatten(1).T.tolist():
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            reference.append(colorsys.hsv_to_rgb(hue, min(1.0, factor * saturation), value))
        torch.testing.assert_close(got.flatten(1).T, torch.tensor(reference), rtol=0, atol=1e-6)


def test_colour_jitter_is_its_parts_in_order_by_strengths_drawn_for_each_clip():
    """Strengths and order of dmvr's `color_default_augm`."""
    key, clips = torch.arange(64), colours(64)
    brightness, saturation, contrast, hue = (2 * uniform(key, "color jitter strengths", 4) - 1).T.view(
        4, 64, 1, 1, 1, 1
    )
    expected = clips + 32 / 255 * brightness
    expected = adjust_saturation(expected, 1 + 0.4 * saturation)
    expected = adjust_contrast(expected, 1 + 0.4 * contrast)
    expected = adjust_hue(expected, 0.2 * hue).clamp(0, 1)
    got = color_jitter(clips, key, 1.0)
    torch.testing.assert_close(got, expected)
    assert got.min() == 0.0 and got.max() == 1.0
    assert ((got - clips).abs().amax(dim=(1, 2, 3, 4)) > 0.01).all()


def test_grey_equals_torchvisions():
    clips = colours(4)
    for clip, got in zip(clips, gray(clips, torch.arange(4), 1.0), strict=True):
        torch.testing.assert_close(got, TF.rgb_to_grayscale(clip.transpose(0, 1), 3).transpose(0, 1))


def test_colours_change_in_their_share_of_clips_and_leave_the_others_exactly():
    key, clips = torch.arange(2000), colours(1, frames=1).expand(2000, -1, -1, -1, -1)
    changed = {}
    for change, share in ((color_jitter, 0.8), (gray, 0.1)):
        changed[change] = (change(clips, key, share) != clips).flatten(1).any(dim=1)
        assert stats.binomtest(int(changed[change].sum()), 2000, share).pvalue > 1e-3
        assert torch.equal(change(clips[:9], key[:9], 0.0), clips[:9])
    assert abs(np.corrcoef(*(which.numpy() for which in changed.values()))[0, 1]) < 4 / math.sqrt(2000)


def test_colours_change_alike_in_equal_frames_and_by_the_clips_key_alone():
    key, clips = torch.arange(6), colours(6, frames=1).expand(-1, -1, 3, -1, -1)
    order = [3, 1, 5, 0, 4, 2]
    for change in (color_jitter, gray):
        out = change(clips, key, 0.5)
        assert torch.equal(out, out[:, :, :1].expand_as(out))
        assert torch.equal(change(clips[order], key[order], 0.5), out[order])
