"""Augmentations of pictures as methods without labels have them, batched, the same for all frames of a clip.

CrissCross and XKD `video_transforms.py`, after torchvision's. Shape suffixes: B clips, T frames, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.keyed import normal, uniform
from datamodules.precision import full_precision
from datamodules.streams.video import adjust_hue, luma

# SimCLR's and theirs: deviations in pixels, and the kernel's reach in shares of the side.
_SIGMA = (0.1, 2.0)
_REACH = 1 / 20
# Random erasing: shares of the area, the narrowest box, and tries.
_ERASED = (0.02, 1 / 3)
_NARROWEST = 0.3
_TRIES = 10


def jitter(pixels_B3THW: Tensor, key_B: Tensor, most: Sequence[float]) -> Tensor:
    """Changes brightness, contrast, saturation and hue of each clip, in this order (torchvision draws the order).

    Args:
        pixels_B3THW: [B, 3, T, H, W] float32, RGB 0..1.
        key_B: [B] int64 keys.
        most: of each: the first three are factors from U(1 - most, 1 + most), as torchvision's `ColorJitter` blends
            with black, with the mean grey of each frame and with grey; hue is turned by U(-most, most).

    Raises:
        DataError: these are not four.
    """
    if len(most) != 4:
        raise DataError(f"data.augment.jitter={list(most)}: give brightness, contrast, saturation and hue")
    by_B4 = (2 * uniform(key_B, "jitter", 4) - 1) * torch.tensor(list(most), device=key_B.device)
    brightness, contrast, saturation, hue = by_B4[..., None, None, None, None].unbind(1)
    changed = (pixels_B3THW * (1 + brightness)).clamp_(0, 1)
    mean_B1T11 = luma(changed).mean(dim=(3, 4), keepdim=True)
    changed = (mean_B1T11 + (1 + contrast) * (changed - mean_B1T11)).clamp_(0, 1)
    grey_B1THW = luma(changed)
    changed = (grey_B1THW + (1 + saturation) * (changed - grey_B1THW)).clamp_(0, 1)
    return adjust_hue(changed, hue)


def blur(pixels_B3THW: Tensor, key_B: Tensor, share: float) -> Tensor:
    """Blurs a share of the clips by a Gaussian, each by one of its own; at the edges pictures are mirrored."""
    sigma_B = _SIGMA[0] + (_SIGMA[1] - _SIGMA[0]) * uniform(key_B, "blur sigma")
    chosen_B = uniform(key_B, "blur") < share
    rows_BHH, columns_BWW = (_gaussian(sigma_B, side) for side in pixels_B3THW.shape[3:])
    with full_precision(pixels_B3THW.device):
        blurred = rows_BHH[:, None, None] @ pixels_B3THW @ columns_BWW[:, None, None].mT
    return torch.where(chosen_B.view(-1, 1, 1, 1, 1), blurred, pixels_B3THW)


def _gaussian(sigma_B: Tensor, side: int) -> Tensor:
    """[B, side, side] weights of the pixels before for each pixel after."""
    reach = min(int(side * _REACH), side - 1)
    tap_K = torch.arange(-reach, reach + 1, device=sigma_B.device)
    weight_BK = torch.exp(-0.5 * (tap_K / sigma_B[:, None]) ** 2)
    weight_BK = weight_BK / weight_BK.sum(dim=1, keepdim=True)
    at_SK = (torch.arange(side, device=sigma_B.device)[:, None] + tap_K).abs()
    at_SK = torch.minimum(at_SK, 2 * (side - 1) - at_SK)
    B, S, K = len(sigma_B), side, len(tap_K)
    weight_BSS = weight_BK.new_zeros(B, S, S)
    return weight_BSS.scatter_add_(2, at_SK.expand(B, S, K), weight_BK[:, None].expand(B, S, K))


def erase(video_B3THW: Tensor, key_B: Tensor, share: float) -> Tensor:
    """Puts noise from N(0, 1) into a box of a share of the clips of normalised pictures, the same box in all frames.

    Random erasing (Zhong et al. 2020) by pixel, as XKD's `rand_erasing.py` and timm have it: a box of 2 % to a third of
    the area and of 3 : 10 to 10 : 3; of ten tries the first that fits is taken.
    """
    _, C, T, H, W = video_B3THW.shape
    low, high = _ERASED
    area_BK, aspect_BK = uniform(key_B, "erase shape", 2, _TRIES).unbind(1)
    area_BK = H * W * (low + (high - low) * area_BK)
    aspect_BK = (math.log(_NARROWEST) * (1 - 2 * aspect_BK)).exp()
    height_BK, width_BK = ((area_BK * by).sqrt().round().long() for by in (aspect_BK, 1 / aspect_BK))
    fits_BK = (height_BK < H) & (width_BK < W)
    first_B1 = fits_BK.int().argmax(dim=1, keepdim=True)
    chosen_B = (uniform(key_B, "erase") < share) & fits_BK.any(dim=1)
    top_B1, left_B1 = uniform(key_B, "erase place", 2, 1).unbind(1)
    rows_BH = _span(top_B1, height_BK.gather(1, first_B1), H)
    columns_BW = _span(left_B1, width_BK.gather(1, first_B1), W)
    box_B11HW = (rows_BH[:, :, None] & columns_BW[:, None, :] & chosen_B[:, None, None])[:, None, None]
    # A frame at a time, which takes less memory.
    noise = [normal(key_B, f"erase noise {frame}", C, H, W) for frame in range(T)]
    return torch.where(box_B11HW, torch.stack(noise, 2).to(video_B3THW.dtype), video_B3THW)


def _span(place_B1: Tensor, length_B1: Tensor, side: int) -> Tensor:
    """[B, side] bool, a stretch of a length, of all places as likely."""
    at, start_B1 = torch.arange(side, device=place_B1.device), (place_B1 * (side - length_B1 + 1)).long()
    return (at >= start_B1) & (at < start_B1 + length_B1)


def cutout(video_B3THW: Tensor, key_B: Tensor, most: int) -> Tensor:
    """Takes a block of 0 to `most` pixels out of each clip of normalised pictures; at an edge less is left of it.

    What is taken out becomes its product with the mean of the clip's first frame, which is near 0, as the authors'
    `Cutout` has it.
    """
    _, _, _, H, W = video_B3THW.shape
    size_B, top_B, left_B = uniform(key_B, "cutout", 3).unbind(1)
    half_B1 = (1 + (size_B * most).long())[:, None] // 2
    rows_BH, columns_BW = (
        ((place := torch.arange(side, device=key_B.device)) >= middle_B1 - half_B1) & (place < middle_B1 + half_B1)
        for side, middle_B1 in ((H, (top_B * H).long()[:, None]), (W, (left_B * W).long()[:, None]))
    )
    block_B11HW = (rows_BH[:, :, None] & columns_BW[:, None, :])[:, None, None]
    mean_B1111 = video_B3THW[:, :, :1].mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.where(block_B11HW, video_B3THW * mean_B1111, video_B3THW)
