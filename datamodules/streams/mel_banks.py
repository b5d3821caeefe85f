"""Filters that gather the frequencies of a spectrum into mel bins.

torchaudio's, made in float32, are 1e-3 off where a frequency lies at the foot of a triangle.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

MelScale = Literal["slaney", "htk"]
"""Slaney's mel scale and triangles of equal area (`librosa.filters.mel`), or HTK's and of height 1
(`torchaudio.transforms.MelSpectrogram`)."""
# Slaney: linear up to 1 kHz (15 mel), then 27 mel for each factor of 6.4.
_STEP = math.log(6.4) / 27


def mel_bank(size: int, rate: int, mel_bins: int, low_hz: float, scale: MelScale = "slaney") -> Tensor:
    """Triangular filters from `low_hz` to half the rate, evenly spaced on a mel scale.

    Args:
        size: samples of a frame.
        rate: samples a second.
        mel_bins: filters.
        low_hz: at which the first begins.
        scale: see `MelScale`.

    Returns:
        [frequencies, mel_bins] float64.
    """
    to_mel, to_hertz = (_slaney, _from_slaney) if scale == "slaney" else (_htk, _from_htk)
    edge_P = to_hertz(torch.linspace(to_mel(low_hz), to_mel(rate / 2), mel_bins + 2, dtype=torch.float64))
    hertz_K1 = torch.arange(size // 2 + 1, dtype=torch.float64)[:, None] * rate / size
    left, centre, right = edge_P[:-2], edge_P[1:-1], edge_P[2:]
    rise_KM, fall_KM = (hertz_K1 - left) / (centre - left), (right - hertz_K1) / (right - centre)
    height_KM = torch.minimum(rise_KM, fall_KM).clamp(min=0)
    return height_KM * 2 / (right - left) if scale == "slaney" else height_KM


def _slaney(hertz: float) -> float:
    return hertz * 15 / 1000 if hertz < 1000 else 15 + math.log(hertz / 1000) / _STEP


def _from_slaney(mel_P: Tensor) -> Tensor:
    return torch.where(mel_P < 15, mel_P * 1000 / 15, 1000 * (_STEP * (mel_P - 15)).exp())


def _htk(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _from_htk(mel_P: Tensor) -> Tensor:
    return 700 * (10 ** (mel_P / 2595) - 1)
