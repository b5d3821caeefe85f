"""Log-mels as BYOL-A, CrissCross and XKD make them with librosa, batched, on the device.

Shape suffixes: B clips, T samples, F frames, M mel bins, N samples of a frame, K frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datamodules.errors import DataError
from datamodules.precision import full_precision
from datamodules.streams.mel_banks import mel_bank
from datamodules.types import AudioInputs

# What CrissCross and XKD add before the logarithm (`torch.finfo().eps`).
_EPS = torch.finfo(torch.float32).eps
_PAD_MODES = {"reflect": "reflect", "zeros": "constant"}
# Frames whose spectra are made at a time, as in `decibels.py`.
_CHUNK_CPU, _CHUNK_GPU = 128, 16384


class LibrosaMel(nn.Module):
    """Natural logarithms of mel energies of a batch of waveforms.

    Equal to `log(librosa.filters.mel(...) @ abs(librosa.stft(...)) ** 2 + eps)` of each clip once it is as long as
    `AudioInputs.samples` say, with zeros past its end; bins from 0 Hz to half the sampling rate. Frames are centred, so
    that there is one more than hops. No gradient flows through it.
    """

    window: Tensor
    mel_bank: Tensor

    def __init__(self, inputs: AudioInputs):
        super().__init__()
        self.frames, self.mel_bins = inputs.frames, inputs.mel_bins
        self.fft, self.hop, self.pad_mode = inputs.fft, inputs.hop, _PAD_MODES[inputs.edges]
        self.samples = inputs.samples or (inputs.frames - 1) * inputs.hop
        if self.samples <= inputs.fft // 2:
            raise DataError(
                f"data.inputs.audio: {self.samples} samples are no more than the half of fft={inputs.fft} that is "
                f"mirrored at their ends; read more frames"
            )
        self.register_buffer("window", torch.hann_window(inputs.fft, dtype=torch.float64), persistent=False)
        bank_KM = mel_bank(inputs.fft, inputs.sample_rate, inputs.mel_bins, 0.0, inputs.mel_scale)
        self.register_buffer("mel_bank", bank_KM.float(), persistent=False)

    def num_frames(self, length: Tensor) -> Tensor:
        """Frames whose centre lies within `length` samples, at most `frames`, none of an empty sound; same shape."""
        centres = torch.div(length, self.hop, rounding_mode="floor") + 1
        return centres.clamp(max=self.frames).where(length > 0, 0)

    @torch.no_grad()
    def forward(self, waveform_BT: Tensor, length_B: Tensor) -> Tensor:
        """Log-mel energies, before normalisation.

        Args:
            waveform_BT: [B, T] float, -1..1, zero after each clip's length.
            length_B: [B] integer, samples of each clip; what lies past it is as silent as zeros are.

        Returns:
            [B, frames, mels] float32; frames past all of `samples` are silent, too.
        """
        device = waveform_BT.device
        sound_BT = nn.functional.pad(waveform_BT[:, : self.samples].float(), (0, self.samples - waveform_BT.shape[1]))
        present = min(self.frames, self.samples // self.hop + 1)
        energy_BFM = torch.zeros(len(sound_BT), self.frames, self.mel_bins, device=device)
        clips = max(1, (_CHUNK_CPU if device.type == "cpu" else _CHUNK_GPU) // present)
        with full_precision(device):
            for first in range(0, len(sound_BT), clips):
                part = slice(first, first + clips)
                # In float64, as in `decibels.py`: in float32, bins near the floor are lost beside loud ones.
                spectrum_BKF = torch.stft(
                    sound_BT[part].double(),
                    self.fft,
                    self.hop,
                    window=self.window,
                    pad_mode=self.pad_mode,
                    return_complex=True,
                )
                power_BFK = spectrum_BKF[..., :present].abs().square().float().transpose(1, 2)
                energy_BFM[part, :present] = power_BFK @ self.mel_bank
        return energy_BFM.add_(_EPS).log_()
