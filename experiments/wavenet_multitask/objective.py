"""What is asked of sound without labels: its next sample, itself without noise, and itself at its full rate.

Only what goes in is changed; what is wanted is the sound as it is. Each clip counts alike, whatever its length, so that
the loss is a mean over clips and does not depend on how they lie on processes.

Shape suffixes: B clips, T samples.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchaudio.functional as TA
from torch import Tensor

from datamodules.keyed import uniform
from experiments.wavenet_multitask.model import within

QUIET = 1e-8
"""Power below which sound counts as silence."""
FFT = 512
"""Samples of a window by which the pitch is changed, a quarter of which it moves on."""


class Task(NamedTuple):
    """A question without labels."""

    seen_BT: Tensor
    wanted_BT: Tensor
    counts_BT: Tensor
    """1.0 where an answer is wanted."""


def power(wave_BT: Tensor, length_B: Tensor) -> Tensor:
    """[B] mean of the squares of what is there."""
    there_BT = within(length_B, wave_BT.shape[1])
    return (wave_BT.square() * there_BT).sum(1) / length_B.clamp(min=1)


def levelled(wave_BT: Tensor, length_B: Tensor, rms: float) -> Tensor:
    """Each clip as loud as any other, within -1..1; silence stays silent."""
    return (wave_BT * (rms * power(wave_BT, length_B).clamp(min=QUIET).rsqrt())[:, None]).clamp(-1, 1)


def coloured(key_B: Tensor, samples: int) -> Tensor:
    """[B, samples] noise, of each clip of another colour, from white to brown: power ~ frequency ** -u, u of 0 to 2."""
    phase = uniform(key_B, "phase of noise", samples // 2 + 1) * (2 * torch.pi)
    exponent_B1 = 2 * uniform(key_B, "colour of noise", 1)
    frequency = torch.arange(samples // 2 + 1, device=key_B.device).clamp(min=1)
    spectrum = torch.polar(frequency ** (-exponent_B1 / 2), phase)
    return torch.fft.irfft(spectrum, n=samples)


def noisy(wave_BT: Tensor, noise_BT: Tensor, length_B: Tensor, snr_B: Tensor) -> Tensor:
    """x + alpha eta, alpha = sqrt(P_x / (P_eta 10 ** (SNR / 10))), SNR in dB; nothing is added behind the end."""
    noise_BT = noise_BT * within(length_B, noise_BT.shape[1])
    ratio_B = power(wave_BT, length_B) / (power(noise_BT, length_B).clamp(min=QUIET) * 10 ** (snr_B / 10))
    return wave_BT + ratio_B.sqrt()[:, None] * noise_BT


def coarse(wave_BT: Tensor, factor: int) -> Tensor:
    """At one `factor`th of the rate, each sample of which is held until the next."""
    low = TA.resample(wave_BT, factor, 1)
    return low.repeat_interleave(factor, 1)[:, : wave_BT.shape[1]]


def next_step(wave_BT: Tensor, length_B: Tensor) -> Task:
    """x_t -> x_{t + 1}, but for the last sample, behind which nothing is known."""
    wanted_BT = F.pad(wave_BT[:, 1:], (0, 1))
    return Task(wave_BT, wanted_BT, within(length_B - 1, wave_BT.shape[1]))


def denoise(wave_BT: Tensor, length_B: Tensor, noise_BT: Tensor, snr_B: Tensor) -> Task:
    """x + noise -> x."""
    return Task(noisy(wave_BT, noise_BT, length_B, snr_B), wave_BT, within(length_B, wave_BT.shape[1]))


def upsample(wave_BT: Tensor, length_B: Tensor, factor: int) -> Task:
    """x at a lower rate -> x."""
    return Task(coarse(wave_BT, factor), wave_BT, within(length_B, wave_BT.shape[1]))


def mu_law(wave_BT: Tensor, levels: int) -> Tensor:
    """[B, T] int64, of -1..1."""
    return TA.mu_law_encoding(wave_BT, levels)


def next_step_loss(answer_BAT: Tensor, task: Task) -> Tensor:
    """Mean squared error, or cross-entropy over mu-law levels where there are several answers a sample."""
    levels = answer_BAT.shape[1]
    if levels == 1:
        return over_clips((answer_BAT[:, 0] - task.wanted_BT).square(), task.counts_BT)
    return over_clips(F.cross_entropy(answer_BAT, mu_law(task.wanted_BT, levels), reduction="none"), task.counts_BT)


def smooth_l1(answer_BAT: Tensor, task: Task) -> Tensor:
    """Smooth L1 with beta = 1 [figure]."""
    return over_clips(F.smooth_l1_loss(answer_BAT[:, 0], task.wanted_BT, reduction="none"), task.counts_BT)


def over_clips(error_BT: Tensor, counts_BT: Tensor) -> Tensor:
    """The mean over a clip's samples that count, and then over clips."""
    return ((error_BT * counts_BT).sum(1) / counts_BT.sum(1).clamp(min=1)).mean()


def pitched(wave_BT: Tensor, key_B: Tensor, most: int) -> Tensor:
    """Each clip's pitch by a whole number of semitones of -most..most, at the same speed."""
    steps_B = (uniform(key_B, "pitch") * (2 * most + 1)).long() - most
    changed_BT = wave_BT.clone()
    for steps in steps_B.unique().tolist():
        if steps:
            of = steps_B == steps
            changed_BT[of] = pitch_shift(wave_BT[of], steps)
    return changed_BT


def pitch_shift(wave_BT: Tensor, steps: int) -> Tensor:
    """By a phase vocoder and linear interpolation; torchaudio's resamples by ratios of large numbers, which takes
    seconds a clip."""
    rate = 2 ** (-steps / 12)
    window = torch.hann_window(FFT, device=wave_BT.device)
    spectrum = torch.stft(wave_BT, FFT, window=window, return_complex=True)
    advance = torch.linspace(0, torch.pi * FFT / 4, FFT // 2 + 1, device=wave_BT.device)[:, None]
    longer = torch.istft(TA.phase_vocoder(spectrum, rate, advance), FFT, window=window)
    return F.interpolate(longer[:, None], size=wave_BT.shape[1], mode="linear")[:, 0]


LOSSES = {"next_step": next_step_loss, "denoise": smooth_l1, "upsample": smooth_l1}
