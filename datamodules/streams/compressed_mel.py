"""Log-mels as VATT makes them with TensorFlow: magnitudes in mel bins, their logarithm, and each clip from 0 to 1
(google-research `vatt/data/processing.py`, `make_spectrogram` and `normalize_spectrogram`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.streams.kind import LENGTH, Transform
from datamodules.streams.padding import pad_to
from datamodules.streams.waveform import WaveformInputs, WaveformStream, WaveformTransform
from datamodules.types import AugmentConfig

LOUDER = 10_000.0
"""Factor of the magnitudes before 1 is added and the logarithm is taken."""


@dataclass
class CompressedMelInputs(WaveformInputs):
    """Defaults are VATT's (`configs/dataset.py`): 3.2 s are 150 frames."""

    sample_rate: int = 48000
    seconds: float = 3.2
    window_samples: int = 2048
    """Of a frame; the window is Hann's. It is the size of the transform, too."""
    hop: int = 1024
    """Samples from one frame's start to the next's; past the sound's end is silence."""
    mel_bins: int = 80
    low_hz: float = 80.0
    high_hz: float = 7600.0
    """Where the last bin ends, but at half the sampling rate at most."""

    @property
    def frames(self) -> int:
        return self.samples // self.hop


class CompressedMelStream(WaveformStream):
    """[B, 1, frames, mels] float32 in 0..1; its length in frames, 0 where there is no sound.

    A worker reads [T] float32 in -1..1.
    """

    kind = "compressed_mel"
    options_type = CompressedMelInputs
    options: CompressedMelInputs
    time_axis = 2

    def transform(self, augment: AugmentConfig) -> Transform:
        return CompressedMelTransform(self.options, augment)

    def example(self, clips: int, device: torch.device | str) -> dict[str, Tensor]:
        shape = (clips, 1, self.options.frames, self.options.mel_bins)
        return {
            "": torch.zeros(shape, device=device),
            LENGTH: torch.zeros(clips, dtype=torch.int64, device=device),
        }


class CompressedMelTransform(WaveformTransform):
    """Waveforms -> log-mels."""

    options: CompressedMelInputs
    window: Tensor
    mel_bank: Tensor

    def __init__(self, options: CompressedMelInputs, augment: AugmentConfig):
        super().__init__(options, augment)
        self.register_buffer("window", torch.hann_window(options.window_samples), persistent=False)
        self.register_buffer("mel_bank", tensorflow_bank(options).float(), persistent=False)

    def forward(self, raw: dict[str, Tensor], key_B: Tensor, train: bool) -> dict[str, Tensor]:
        waveform, options = super().forward(raw, key_B, train), self.options
        size = options.window_samples
        sound_BT = pad_to(waveform[""], options.samples).float()
        padded_BT = torch.nn.functional.pad(sound_BT, (0, size))
        frames_BFN = padded_BT.unfold(1, size, options.hop)[:, : options.frames] * self.window
        mel_BFM = torch.fft.rfft(frames_BFN).abs() @ self.mel_bank
        level_BFM = (1 + LOUDER * mel_BFM).log()
        least_B11, most_B11 = level_BFM.amin((1, 2), keepdim=True), level_BFM.amax((1, 2), keepdim=True)
        range_B11 = most_B11 - least_B11
        scaled_BFM = torch.where(range_B11 > 0, (level_BFM - least_B11) / range_B11.clamp(min=1e-20), 0)
        length_B = (waveform[LENGTH] + options.hop - 1) // options.hop
        return {"": scaled_BFM[:, None], LENGTH: length_B.clamp(max=options.frames)}


def tensorflow_bank(options: CompressedMelInputs) -> Tensor:
    """[window_samples // 2 + 1, mel_bins] float64 of `tf.signal.linear_to_mel_weight_matrix`, whose triangles are
    straight on the mel scale, and not in hertz; 0 Hz is in none."""

    def mel(hertz: Tensor) -> Tensor:
        return 1127 * (1 + hertz / 700).log()

    count, high_hz = options.window_samples // 2 + 1, min(options.high_hz, options.sample_rate / 2)
    place_K1 = mel(torch.linspace(0, options.sample_rate / 2, count, dtype=torch.float64))[:, None]
    ends = mel(torch.tensor([options.low_hz, high_hz], dtype=torch.float64)).tolist()
    low, high = float(ends[0]), float(ends[1])
    edge_P = torch.linspace(low, high, options.mel_bins + 2, dtype=torch.float64)
    left, centre, right = edge_P[:-2], edge_P[1:-1], edge_P[2:]
    bank_KM = torch.minimum((place_K1 - left) / (centre - left), (right - place_K1) / (right - centre)).clamp(min=0)
    bank_KM[0] = 0
    return bank_KM
