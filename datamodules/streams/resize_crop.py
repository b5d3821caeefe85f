"""BYOL-A's random resized crop of log-mels, batched.

Shape suffixes: B clips, F frames, M mel bins, I places along an axis before it, O after.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.keyed import uniform
from datamodules.precision import full_precision

# BYOL-A `augmentations.py`, CrissCross and XKD `spec_aug.py`: the box lies in a canvas as high as the log-mel and half
# as long again, in whose middle the log-mel stands; around it are zeros, which after normalisation are the mean.
_CANVAS_BINS, _CANVAS_FRAMES = 1.0, 1.5
# Of the cubic that torch's bicubic interpolation uses.
_CUBIC = -0.75


def resize_crop(log_mel_BFM: Tensor, key_B: Tensor, scale: Sequence[float]) -> Tensor:
    """Cuts a random box out of each clip's canvas and resizes it to the clip's size: pitch and tempo change.

    Resizing is bicubic with corners aligned, as torch's `interpolate`, in two batched products.

    Args:
        log_mel_BFM: [B, F, M] normalised.
        key_B: [B] int64 keys.
        scale: [least, most] size of the box in shares of the log-mel's, drawn for each axis by itself; what is more
            than the canvas has is cut off.

    Raises:
        DataError: `scale` is no such pair.
    """
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise DataError(f"data.augment.resize_crop={list(scale)}: give the least and the most, e.g. [0.6, 1.5]")
    _, F, M = log_mel_BFM.shape
    u_B4 = uniform(key_B, "log-mel resize crop", 4)
    frames_BOI = _weights(u_B4[:, 0], u_B4[:, 2], F, int(F * _CANVAS_FRAMES), scale)
    bins_BOI = _weights(u_B4[:, 1], u_B4[:, 3], M, int(M * _CANVAS_BINS), scale)
    with full_precision(log_mel_BFM.device):
        return frames_BOI @ log_mel_BFM @ bins_BOI.mT


def _weights(size_B: Tensor, place_B: Tensor, size: int, canvas: int, scale: Sequence[float]) -> Tensor:
    """[B, O, I] weights along an axis: of each place after, those of the places before.

    Args:
        size_B, place_B: [B] in [0, 1), what is drawn of a box.
        size: places before, and after.
        canvas: places of the canvas.
        scale: see `resize_crop`.
    """
    least, most = scale
    length_B = ((least + (most - least) * size_B) * size).long().clamp(1, canvas)
    start_B = (place_B * (canvas - length_B + 1)).long()
    step_B1 = ((length_B - 1) / max(size - 1, 1))[:, None]
    at_BO = step_B1 * torch.arange(size, device=size_B.device)
    left_BO = at_BO.floor()
    taps_BO4 = torch.arange(-1, 3, device=size_B.device) + left_BO[..., None]
    weight_BO4 = _cubic((at_BO[..., None] - taps_BO4).abs())
    # Beyond the box its outermost values go on.
    inside_BO4 = torch.minimum(taps_BO4.long().clamp(min=0), (length_B - 1)[:, None, None])
    weight_BOC = weight_BO4.new_zeros(len(size_B), size, canvas)
    weight_BOC.scatter_add_(2, inside_BO4 + start_B[:, None, None], weight_BO4)
    before = (canvas - size) // 2
    return weight_BOC[..., before : before + size]


def _cubic(distance: Tensor) -> Tensor:
    """Cubic convolution (Keys 1981), of a distance in places from 0 to 2."""
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
