"""BYOL-A's random resized crop of log-mels, and their warp in time, batched.

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
    weight_BOC = _bicubic(at_BO, start_B[:, None], length_B[:, None], canvas)
    before = (canvas - size) // 2
    return weight_BOC[..., before : before + size]


def time_warp(log_mel_BFM: Tensor, key_B: Tensor, most: int) -> Tensor:
    """Moves a random frame of each clip by at most so many frames: what is before it becomes longer and what is after
    it shorter, or the other way round (s3prl `specaug.py`; CrissCross and XKD `spec_aug.py`).

    The frame is at least `most` frames from either end; clips too short for that stay as they are. Resizing is bicubic,
    as torch's `interpolate`.
    """
    frames = log_mel_BFM.shape[1]
    if frames <= 2 * most:
        return log_mel_BFM
    u_B21 = uniform(key_B, "time warp", 2, 1)
    from_B1 = most + (u_B21[:, 0] * (frames - 2 * most)).long()
    to_B1 = from_B1 - most + 1 + (u_B21[:, 1] * 2 * most).long()
    after_O = torch.arange(frames, device=key_B.device)
    first_BO = after_O < to_B1
    start_BO = torch.where(first_BO, 0, from_B1)
    length_BO = torch.where(first_BO, from_B1, frames - from_B1)
    place_BO, size_BO = after_O - torch.where(first_BO, 0, to_B1), torch.where(first_BO, to_B1, frames - to_B1)
    at_BO = (place_BO + 0.5) * (length_BO / size_BO) - 0.5
    with full_precision(log_mel_BFM.device):
        return _bicubic(at_BO, start_BO, length_BO, frames) @ log_mel_BFM


def _bicubic(at_BO: Tensor, start_BO: Tensor, length_BO: Tensor, places: int) -> Tensor:
    """[B, O, places] weights of the places before for each place after, which lies at `at_BO` of the stretch that
    begins at `start_BO` and has `length_BO` places; beyond it its outermost values go on."""
    left_BO = at_BO.floor()
    taps_BO4 = torch.arange(-1, 3, device=at_BO.device) + left_BO[..., None]
    weight_BO4 = _cubic((at_BO[..., None] - taps_BO4).abs())
    inside_BO4 = torch.minimum(taps_BO4.long().clamp(min=0), (length_BO - 1)[..., None])
    weight_BOI = weight_BO4.new_zeros(*at_BO.shape, places)
    return weight_BOI.scatter_add_(2, inside_BO4 + start_BO[..., None], weight_BO4)


def _cubic(distance: Tensor) -> Tensor:
    """Cubic convolution (Keys 1981), of a distance in places from 0 to 2."""
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
