"""AVLnet's sound: mel energies in decibels below the loudest of the clip, batched, on the device; or of all of a
source, of which clips are cut.

Shape suffixes: B clips, T samples, E samples before a clip or after it, F frames, M mel bins, N samples of a frame,
K frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datamodules.precision import full_precision
from datamodules.streams.mel_banks import mel_bank
from datamodules.types import AudioInputs

# AVLnet's `audio_to_spectrograms.py`; the last two are librosa's (`power_to_db`).
_FRAME_S = 0.025
_SHIFT_S = 0.010
_PREEMPHASIS = 0.97
_LOW_HZ = 20.0
_FLOOR = 1e-10
_RANGE_DB = 80.0

# Frames whose spectra are made at a time, about 9 kB each at 16 kHz: few enough for a CPU's caches.
_CHUNK_CPU, _CHUNK_GPU = 128, 16384


def _chunk(device: torch.device) -> int:
    """Frames at a time."""
    return _CHUNK_CPU if device.type == "cpu" else _CHUNK_GPU


class DecibelMel(nn.Module):
    """Mel energies of a batch of waveforms in dB, -80..0, as AVLnet's `audio_to_spectrograms.py` computes them.

    Each clip loses its mean and is pre-emphasised, all but its first sample. Frames of 25 ms under a symmetric Hamming
    window are centred every 10 ms from the first sample on. The clip is mirrored at both of its own ends, as librosa
    did before 0.9; a very short one again and again. Slaney's mel bands go from 20 Hz to half the sampling rate.
    0 dB is the highest energy in all of the sound that is given, cut frames too; energies more than 80 dB below it
    are raised to -80 dB. A silent clip is 0 dB throughout. No gradient flows through it.

    The authors' sox makes the sound 4 dB quieter beforehand. That is left out, as it cancels against the highest
    energy, but in clips so quiet that the floor of 1e-10 lies above -80 dB.
    """

    window: Tensor
    mel_bank: Tensor

    def __init__(self, inputs: AudioInputs):
        super().__init__()
        rate = inputs.sample_rate
        self.frames = inputs.frames
        self.mel_bins = inputs.mel_bins
        self.shift = int(rate * _SHIFT_S)
        self.size = int(rate * _FRAME_S)
        self.edge = self.size // 2
        window_N = torch.hamming_window(self.size, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window_N, persistent=False)
        bank_KM = mel_bank(self.size, rate, inputs.mel_bins, _LOW_HZ)
        self.register_buffer("mel_bank", bank_KM.float(), persistent=False)

    def num_frames(self, length: Tensor) -> Tensor:
        """Frames of a sound of `length` samples, at most `frames`, none of an empty one; same shape as `length`."""
        return self._centres(length).clamp(max=self.frames)

    def _centres(self, length: Tensor) -> Tensor:
        # A frame of odd size has one sample more than both edges together.
        count = torch.div(length - self.size % 2, self.shift, rounding_mode="floor") + 1
        return count.where(length > 0, 0)

    @torch.no_grad()
    def forward(self, waveform_BT: Tensor, length_B: Tensor) -> Tensor:
        """Mel energies in dB.

        Args:
            waveform_BT: [B, T] float, -1..1, zero after each clip's length.
            length_B: [B] integer, samples of each clip.

        Returns:
            [B, frames, mels] float32, to be used as they are: the authors do not normalise. Frames after a clip's own
            are 0, the level of its loudest sound and not of silence; that is the authors' padding. Frames after
            `frames` are cut.
        """
        B, T = waveform_BT.shape
        device = waveform_BT.device
        decibel_BFM = torch.zeros(B, self.frames, self.mel_bins, device=device)
        if T == 0:
            return decibel_BFM
        clips = max(1, _chunk(device) // (T // self.shift + 1))
        # As in `LogMel`: inference mode saves bookkeeping; what is written to was made outside and stays ordinary.
        with torch.inference_mode(), full_precision(device):
            for first in range(0, B, clips):
                part = slice(first, first + clips)
                level_BFM = self._levels(waveform_BT[part].float(), length_B[part])[:, : self.frames]
                decibel_BFM[part, : level_BFM.shape[1]] = level_BFM
        return decibel_BFM

    def _levels(self, waveform_BT: Tensor, length_B: Tensor) -> Tensor:
        """[B, F, M] in dB: all frames of the longest clip, 0 after a clip's own."""
        frames_BFN = self._mirrored(waveform_BT, length_B).unfold(1, self.size, self.shift)
        step = max(1, _chunk(waveform_BT.device) // len(length_B))
        energy_BFM = torch.cat([self._energies(some_BFN) for some_BFN in frames_BFN.split(step, dim=1)], dim=1)

        frame_F = torch.arange(energy_BFM.shape[1], device=length_B.device)
        absent_BF1 = (frame_F >= self._centres(length_B)[:, None])[..., None]
        level_BFM = energy_BFM.masked_fill_(absent_BF1, 0.0).clamp_(min=_FLOOR).log10_().mul_(10)
        level_BFM -= level_BFM.amax(dim=(1, 2), keepdim=True)
        return level_BFM.clamp_(min=-_RANGE_DB).masked_fill_(absent_BF1, 0.0)

    def _energies(self, frames_BFN: Tensor) -> Tensor:
        """[B, F, M] float32."""
        # In float64, as NumPy's FFT in librosa: float32 would be up to 2e-3 dB off in bins near -80 dB (measured).
        re_BFK, im_BFK = torch.view_as_real(torch.fft.rfft(frames_BFN * self.window)).unbind(-1)
        return (re_BFK * re_BFK).addcmul_(im_BFK, im_BFK).float() @ self.mel_bank

    def _mirrored(self, waveform_BT: Tensor, length_B: Tensor) -> Tensor:
        """[B, E + T + E]: without mean, pre-emphasised, mirrored before each clip's first sample and after its last."""
        length_B1 = length_B[:, None]
        centred_BT = waveform_BT - waveform_BT.sum(dim=1, keepdim=True) / length_B1.clamp(min=1)
        sharp_BT = torch.cat([centred_BT[:, :1], centred_BT[:, 1:] - _PREEMPHASIS * centred_BT[:, :-1]], dim=1)

        near_E = torch.arange(self.edge, device=length_B.device)
        outside_BE = torch.cat([(near_E - self.edge).expand(len(length_B), -1), length_B1 + near_E], dim=1)
        # Mirrored at both ends, a sound repeats after the way to its last sample and back.
        period_B1 = (2 * (length_B1 - 1)).clamp(min=1)
        source_BE = outside_BE % period_B1
        source_BE = torch.minimum(source_BE, period_B1 - source_BE)
        padded_BT = nn.functional.pad(sharp_BT, (self.edge, self.edge))
        return padded_BT.scatter_(1, outside_BE + self.edge, sharp_BT.gather(1, source_BE))


@torch.no_grad()
def source_levels(sound_T: Tensor, inputs: AudioInputs) -> Tensor:
    """[F, M] in dB: all frames of a whole source's sound, 0 dB being the loudest of them; none of an empty one."""
    if not len(sound_T):
        return torch.empty(0, inputs.mel_bins)
    with full_precision(sound_T.device):
        return DecibelMel(inputs)._levels(sound_T[None], torch.tensor([len(sound_T)]))[0]


def column(seconds: float, sample_rate: int) -> int:
    """The frame of a source's log-mels at which a cut from this time on begins, and one up to it ends.

    It is centred up to 2 frames before: the authors count half a frame off (librosa's `time_to_frames` with `n_fft`),
    and Everything at Once stops at the first frame.
    """
    sample = int(seconds * sample_rate) - int(sample_rate * _FRAME_S) // 2
    return max(0, sample // int(sample_rate * _SHIFT_S))
