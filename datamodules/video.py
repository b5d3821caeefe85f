"""Pictures on the device: normalisation and the augmentations of video, batched, the same for all frames of a clip.

Shape suffixes: B clips, T frames, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.keyed import uniform
from datamodules.precision import full_precision

# torchvision.transforms.RandomResizedCrop: aspect ratios, and tries before it takes the centre.
_ASPECTS = (3 / 4, 4 / 3)
_TRIES = 10


def normalise(frames_BTHW3: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[B, T, H, W, 3] uint8 RGB -> [B, 3, T, H, W] float32, `(x / 255 - mean) / std` a colour."""
    video_B3THW = frames_BTHW3.permute(0, 4, 1, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    mean_3111 = video_B3THW.new_tensor(mean).view(3, 1, 1, 1)
    std_3111 = video_B3THW.new_tensor(std).view(3, 1, 1, 1)
    return video_B3THW.div_(255).sub_(mean_3111).div_(std_3111)


def random_boxes(key_B: Tensor, height: int, width: int, scale_min: float) -> Tensor:
    """Boxes with the distribution of torchvision's `RandomResizedCrop.get_params`.

    A box has `scale_min`..1 of the area and an aspect ratio of 3/4..4/3 (uniform in the logarithm); of ten tries
    the first that fits is taken, else the largest central box of an allowed aspect. With `scale_min` 1 that is the
    whole of a square picture.

    Returns:
        [B, 4] int64: top, left, height, width, in pixels.
    """
    area_BK, aspect_BK = uniform(key_B, "video crop shape", 2, _TRIES).double().unbind(1)
    area_BK = height * width * (scale_min + (1 - scale_min) * area_BK)
    low, high = map(math.log, _ASPECTS)
    aspect_BK = (low + (high - low) * aspect_BK).exp()
    width_BK = (area_BK * aspect_BK).sqrt().round().long()
    height_BK = (area_BK / aspect_BK).sqrt().round().long()
    fits_BK = (width_BK > 0) & (width_BK <= width) & (height_BK > 0) & (height_BK <= height)

    first_B1 = fits_BK.int().argmax(dim=1, keepdim=True)
    fits_B = fits_BK.any(dim=1)
    box_height_B = torch.where(fits_B, height_BK.gather(1, first_B1)[:, 0], min(height, round(width / _ASPECTS[0])))
    box_width_B = torch.where(fits_B, width_BK.gather(1, first_B1)[:, 0], min(width, round(height * _ASPECTS[1])))

    top_B, left_B = uniform(key_B, "video crop place", 2).double().unbind(1)
    top_B = torch.where(fits_B, (top_B * (height - box_height_B + 1)).long(), (height - box_height_B) // 2)
    left_B = torch.where(fits_B, (left_B * (width - box_width_B + 1)).long(), (width - box_width_B) // 2)
    return torch.stack([top_B, left_B, box_height_B, box_width_B], dim=1)


def _resampling(start_B: Tensor, length_B: Tensor, source: int, target: int) -> Tensor:
    """[B, target, source] weights that resize `source[start : start + length]` to `target` pixels.

    Bilinear with antialiasing: triangles that widen by the factor of reduction, as `interpolate(antialias=True)`.
    """
    start_B11, length_B11 = start_B[:, None, None], length_B[:, None, None]
    step_B11 = length_B11.float() / target
    pixel_P = torch.arange(source, device=start_B.device)
    centre_BO1 = (torch.arange(target, device=start_B.device)[:, None] + 0.5) * step_B11
    distance_BOP = (pixel_P - start_B11 + 0.5 - centre_BO1).abs() / step_B11.clamp(min=1)
    inside_B1P = (pixel_P >= start_B11) & (pixel_P < start_B11 + length_B11)
    weight_BOP = (1 - distance_BOP).clamp(min=0) * inside_B1P
    return weight_BOP / weight_BOP.sum(dim=2, keepdim=True)


def random_resized_crop(video_B3THW: Tensor, key_B: Tensor, size: int, scale_min: float) -> Tensor:
    """Cuts a random box out of each clip, the same in all its frames, and resizes it to a square.

    Resizing is bilinear with antialiasing, exactly torchvision's `resized_crop(antialias=True)`, so that small sizes
    do not alias. It is done as two batched products with [size, H] and [W, size] weights, one pair a clip:
    `grid_sample` would be quicker on a CPU but cannot antialias, and `interpolate` needs a loop over clips and the
    boxes on the host. A box of `size` x `size` is copied exactly.

    Args:
        video_B3THW: [B, 3, T, H, W] float32.
        key_B: [B] int64 keys.
        size: pixels, height and width of the result.
        scale_min: the smallest share of the area that is kept, see `random_boxes`; 1 resizes a square picture whole.

    Returns:
        [B, 3, T, size, size] float32.
    """
    B, C, T, H, W = video_B3THW.shape
    top_B, left_B, height_B, width_B = random_boxes(key_B, H, W, scale_min).unbind(1)
    rows_BSH = _resampling(top_B, height_B, H, size)
    columns_BSW = _resampling(left_B, width_B, W, size)
    with full_precision(video_B3THW.device):
        narrowed = video_B3THW.reshape(B, C * T * H, W) @ columns_BSW.mT
        return (rows_BSH[:, None] @ narrowed.view(B, C * T, H, size)).view(B, C, T, size, size)


def horizontal_flip(video_B3THW: Tensor, key_B: Tensor) -> Tensor:
    """Mirrors half of the clips, each with all its frames."""
    flipped_B = uniform(key_B, "video flip") < 0.5
    return torch.where(flipped_B.view(-1, 1, 1, 1, 1), video_B3THW.flip(-1), video_B3THW)
