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

# Google's video augmentation, which MBT and VATT use (dmvr `processors.color_default_augm`): brightness is added,
# saturation and contrast are factors, hue is added in turns.
_BRIGHTNESS = 32 / 255
_SATURATION = 0.4
_CONTRAST = 0.4
_HUE = 0.2

# Luma of red, green and blue (ITU-R BT.601), as TensorFlow and torchvision round it.
_LUMA = (0.2989, 0.587, 0.114)


def normalise(frames_BTHW3: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """[B, T, H, W, 3] uint8 RGB -> [B, 3, T, H, W] float32, `(x / 255 - mean) / std` a colour."""
    video_B3THW = frames_BTHW3.permute(0, 4, 1, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    return standardise(video_B3THW.div_(255), mean, std)


def standardise(pixels_B3THW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels 0..1 -> `(x - mean) / std` a colour, in place."""
    return pixels_B3THW.sub_(_a_colour(mean, pixels_B3THW)).div_(_a_colour(std, pixels_B3THW))


def denormalise(video_B3THW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised video -> pixels 0..1."""
    return video_B3THW * _a_colour(std, video_B3THW) + _a_colour(mean, video_B3THW)


def _a_colour(values: Sequence[float], like: Tensor) -> Tensor:
    """[3, 1, 1, 1] one value a colour."""
    return like.new_tensor(values).view(3, 1, 1, 1)


def random_boxes(key_B: Tensor, height: int, width: int, scale_min: float, scale_max: float = 1.0) -> Tensor:
    """Boxes with the distribution of torchvision's `RandomResizedCrop.get_params`.

    A box has `scale_min`..`scale_max` of the area and an aspect ratio of 3/4..4/3 (uniform in the logarithm); of ten
    tries the first that fits is taken, else the largest central box of an allowed aspect. With `scale_min` 1 that is
    the whole of a square picture.

    Returns:
        [B, 4] int64: top, left, height, width, in pixels.
    """
    area_BK, aspect_BK = uniform(key_B, "video crop shape", 2, _TRIES).double().unbind(1)
    area_BK = height * width * (scale_min + (scale_max - scale_min) * area_BK)
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


def random_resized_crop(
    video_B3THW: Tensor, key_B: Tensor, size: int, scale_min: float, scale_max: float = 1.0
) -> Tensor:
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
        scale_max: the largest.

    Returns:
        [B, 3, T, size, size] float32.
    """
    B, C, T, H, W = video_B3THW.shape
    top_B, left_B, height_B, width_B = random_boxes(key_B, H, W, scale_min, scale_max).unbind(1)
    rows_BSH = _resampling(top_B, height_B, H, size)
    columns_BSW = _resampling(left_B, width_B, W, size)
    with full_precision(video_B3THW.device):
        narrowed = video_B3THW.reshape(B, C * T * H, W) @ columns_BSW.mT
        return (rows_BSH[:, None] @ narrowed.view(B, C * T, H, size)).view(B, C, T, size, size)


def horizontal_flip(video_B3THW: Tensor, key_B: Tensor) -> Tensor:
    """Mirrors half of the clips, each with all its frames."""
    return torch.where(flipped(key_B).view(-1, 1, 1, 1, 1), video_B3THW.flip(-1), video_B3THW)


def flipped(key_B: Tensor) -> Tensor:
    """[B] bool, the clips that `horizontal_flip` mirrors."""
    return uniform(key_B, "video flip") < 0.5


def color_jitter(pixels_B3THW: Tensor, key_B: Tensor, share: float) -> Tensor:
    """Changes brightness, saturation, contrast and hue, in this order, of a share of the clips.

    As dmvr's `color_default_augm`: all frames of a clip are changed alike, and pixels are clipped at the end only.

    Args:
        pixels_B3THW: [B, 3, T, H, W] float32, RGB 0..1.
        key_B: [B] int64 keys.
        share: of the clips that are changed, 0..1; the others come out as they went in.
    """
    chosen_B = uniform(key_B, "color jitter") < share
    by_B4 = 2 * uniform(key_B, "color jitter strengths", 4) - 1
    brightness_B, saturation_B, contrast_B, hue_B = by_B4[..., None, None, None, None].unbind(1)
    changed = pixels_B3THW + _BRIGHTNESS * brightness_B
    changed = adjust_saturation(changed, 1 + _SATURATION * saturation_B)
    changed = adjust_contrast(changed, 1 + _CONTRAST * contrast_B)
    changed = adjust_hue(changed, _HUE * hue_B).clamp_(0, 1)
    return torch.where(chosen_B.view(-1, 1, 1, 1, 1), changed, pixels_B3THW)


def adjust_saturation(pixels_B3THW: Tensor, factor: Tensor) -> Tensor:
    """Multiplies HSV's saturation, at most to 1, as `tf.image.adjust_saturation`; hue and value stay.

    Saturation is `(max - min) / max`. With hue and value kept, what a colour lacks to the maximum grows in the same
    proportion in all three, so that no conversion to HSV is needed.
    """
    value = pixels_B3THW.amax(dim=1, keepdim=True)
    lacking = value - pixels_B3THW
    most = value / lacking.amax(dim=1, keepdim=True).clamp(min=torch.finfo(lacking.dtype).tiny)
    return value - lacking * torch.minimum(factor, most).clamp_(min=0)


def adjust_contrast(pixels_B3THW: Tensor, factor: Tensor) -> Tensor:
    """Multiplies the distance from the mean of each colour of each frame, as `tf.image.adjust_contrast`."""
    mean_B3T11 = pixels_B3THW.mean(dim=(3, 4), keepdim=True)
    return (pixels_B3THW - mean_B3T11) * factor + mean_B3T11


def adjust_hue(pixels_B3THW: Tensor, turns: Tensor) -> Tensor:
    """Turns HSV's hue, 1 being a whole turn, as `tf.image.adjust_hue`; a pixel's maximum and minimum stay."""
    red, green, blue = pixels_B3THW.unbind(1)
    value, low = pixels_B3THW.amax(dim=1), pixels_B3THW.amin(dim=1)
    span = value - low
    safe = torch.where(span > 0, span, 1.0)
    hue = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(value == red, (green - blue) / safe, hue)  # in sixths of a turn: red 0, green 2, blue 4
    hue_B1THW = (hue[:, None] + 6 * turns) % 6
    # How far each colour is up from the minimum to the maximum: trapezoids over the hue, centred at its own.
    centre = hue.new_tensor([0.0, 2.0, 4.0]).view(3, 1, 1, 1)
    distance = 3 - ((hue_B1THW - centre).abs() - 3).abs()
    return low[:, None] + span[:, None] * (2 - distance).clamp_(0, 1)


def gray(pixels_B3THW: Tensor, key_B: Tensor, share: float) -> Tensor:
    """Turns a share of the clips grey, each with all its frames."""
    chosen_B = uniform(key_B, "gray") < share
    return torch.where(chosen_B.view(-1, 1, 1, 1, 1), luma(pixels_B3THW), pixels_B3THW)


def luma(pixels_B3THW: Tensor) -> Tensor:
    """[B, 1, T, H, W] how bright each pixel is."""
    return (pixels_B3THW * _a_colour(_LUMA, pixels_B3THW)).sum(dim=1, keepdim=True)
