"""Sound as a picture: the logarithm of its power at evenly spaced frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.keyed import uniform
from datamodules.streams.kind import LENGTH, Transform
from datamodules.streams.padding import pad_to
from datamodules.streams.waveform import WaveformInputs, WaveformStream, WaveformTransform
from datamodules.types import AugmentConfig

SIXTEEN_BITS = 2.0**15
"""Levels to which a waveform of -1..1 is scaled: the floor is that of files read as whole numbers."""
FLOOR = 1e-7
"""Added to the power before the logarithm (kyuyeonpooh/objects-that-sound `config.ini` eps)."""


@dataclass
class SpectrogramInputs(WaveformInputs):
    """A log-spectrogram as a method reads it; defaults are those of "Objects that Sound" (AVE-Net)."""

    sample_rate: int = 48000
    seconds: float = 1.0
    window_samples: int = 480
    """Of a frame, 10 ms; the window is Hann's."""
    hop: int = 240
    """Samples from one frame to the next, half of the window."""
    fft: int = 512
    """Samples of the transform, past the window zeros; there are `fft // 2 + 1` frequencies."""
    mean: float = 0.0
    std: float = 26.68
    """dB are normalised to `(x - mean) / std` (kyuyeonpooh/objects-that-sound `utils/dataset.py`)."""
    gain: float = 0.0
    """In training a clip is louder or softer by up to this share."""

    @property
    def frames(self) -> int:
        return self.samples // self.hop


class SpectrogramStream(WaveformStream):
    """[B, 1, `fft // 2 + 1`, frames] float32, frequency first; its length in frames, 0 where there is no sound.

    A worker reads [T] float32 in -1..1.
    """

    kind = "spectrogram"
    options_type = SpectrogramInputs
    options: SpectrogramInputs
    time_axis = 3

    def transform(self, augment: AugmentConfig) -> Transform:
        return SpectrogramTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        shape = (clips, 1, self.options.fft // 2 + 1, self.options.frames)
        return {
            "": torch.zeros(shape, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }


class SpectrogramTransform(WaveformTransform):
    """Waveforms -> log-spectrograms."""

    options: SpectrogramInputs
    window: Tensor

    def __init__(self, options: SpectrogramInputs, augment: AugmentConfig):
        super().__init__(options, augment)
        self.register_buffer("window", torch.hann_window(options.window_samples), persistent=False)

    def augmented(self, raw: dict[str, Tensor], key_B: Tensor) -> dict[str, Tensor]:
        raw = super().augmented(raw, key_B)
        if not self.options.gain:
            return raw
        gain_B = 1 + self.options.gain * (2 * uniform(key_B, "spectrogram gain") - 1)
        return {**raw, "": raw[""] * gain_B[:, None]}

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        waveform = super().forward(raw, key_B, train)
        power_BKF = self.power(pad_to(waveform[""], self.options.samples))
        level_BKF = (10 * torch.log10(power_BKF + FLOOR) - self.options.mean) / self.options.std
        return {"": level_BKF[:, None], LENGTH: waveform[LENGTH] // self.options.hop}

    def power(self, waveform_BT: Tensor) -> Tensor:
        """[B, T] -> [B, `fft // 2 + 1`, T // hop] density of 16-bit samples, as of `scipy.signal.spectrogram`.

        Frames begin every `hop` samples, the first half of what the window is longer than `hop` before the sound:
        whole frames alone would be 199 in 1 s at the defaults, and the paper has 200.
        """
        options = self.options
        spare = options.fft - options.hop
        padded_BT = torch.nn.functional.pad(waveform_BT.float() * SIXTEEN_BITS, (spare // 2, math.ceil(spare / 2)))
        spectrum_BKF = torch.stft(
            padded_BT, options.fft, options.hop, options.window_samples, self.window, center=False, return_complex=True
        )
        one_sided = torch.full((options.fft // 2 + 1, 1), 2.0, device=waveform_BT.device)
        one_sided[0], one_sided[-1] = 1.0, 1.0  # 0 Hz and the highest one stand for themselves alone
        scale = one_sided / (options.sample_rate * self.window.square().sum())
        frames = waveform_BT.shape[1] // options.hop
        return (torch.view_as_real(spectrum_BKF).square().sum(-1) * scale)[..., :frames]
