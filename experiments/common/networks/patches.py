"""How log-mels and frames divide into patches."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from datamodules.types import AudioInputs, VideoInputs

Read = TypeVar("Read", AudioInputs, VideoInputs)


def looked_at(inputs: Read | None, name: str) -> Read:
    """The inputs of a modality, which is looked at.

    Raises:
        ValueError: there are none, although the stage looks at it.
    """
    if inputs is None:
        raise ValueError(f"this stage looks at {name}, but data.inputs.{name} is null")
    return inputs


def audio_grid(audio: AudioInputs, patch: int) -> tuple[int, int]:
    """(time, mel): 1024 frames of 128 mel bins are 64 x 8 patches of 16 x 16.

    Raises:
        ValueError: naming the input that does not divide.
    """
    return _divide("audio.frames", audio.frames, patch), _divide("audio.mel_bins", audio.mel_bins, patch)


def video_grid(video: VideoInputs, patch: int, tubelet: int) -> tuple[int, int, int]:
    """(time, height, width): 8 frames of 224 x 224 are 4 x 14 x 14 patches of 2 x 16 x 16.

    Raises:
        ValueError: naming the input that does not divide.
    """
    side = _divide("video.size", video.size, patch)
    return _divide("video.frames", video.frames, tubelet), side, side


def patchify(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """[B, C, *size] -> [B, L, P]: the raw values of each patch, in the order of the tokens.

    L runs over the grid as the encoders' tokens do; P = prod(patch) * C, e.g. 256 of 16 x 16 log-mels and 1536 of
    2 x 16 x 16 pictures.
    """
    for axis, side in enumerate(patch):
        x = x.unfold(2 + axis, side, side)
    channels_last = x.movedim(1, -1)
    return channels_last.reshape(x.shape[0], math.prod(x.shape[2 : 2 + len(patch)]), -1)


def normalized_patches(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """[B, C, *size] -> [B, L, P]: raw patches, each with mean 0 and (unbiased) variance 1 (MAE `norm_pix_loss`)."""
    patches_BLP = patchify(x, patch)
    variance, mean = torch.var_mean(patches_BLP, dim=-1, keepdim=True)
    return (patches_BLP - mean) / (variance + 1e-6).sqrt()


def _divide(name: str, size: int, patch: int) -> int:
    if size < patch or size % patch:
        raise ValueError(f"{name} must be a multiple of the patch size {patch}, not {size}")
    return size // patch
