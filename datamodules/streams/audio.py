"""Sound on the device: log-mel features and the augmentations of waveforms and log-mels, batched.

The order is AudioMAE's (`dataset.py`): `roll_gain` and mix-up (`mixing.py`) of waveforms, `LogMel`, `spec_mask`,
`normalise`; then UAVM's (`src/dataloader.py`): `add_noise`, `roll_frames`. `volume` comes with `roll_gain`.
Shape suffixes: B clips, T samples, F frames, M mel bins, N samples of a frame.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torchaudio.compliance.kaldi import get_mel_banks

from datamodules.keyed import beta, uniform
from datamodules.precision import full_precision
from datamodules.types import AudioInputs, AugmentConfig

# Kaldi's defaults (torchaudio.compliance.kaldi.fbank).
_FRAME_MS = 25.0
_SHIFT_MS = 10.0
_PREEMPHASIS = 0.97
_LOW_HZ = 20.0
_FLOOR = torch.finfo(torch.float32).eps

# The same windows as Kaldi's `hanning` and `hamming`.
_WINDOWS = {"hanning": torch.hann_window, "hamming": torch.hamming_window}

# Frames worked on at a time, in whole clips: few enough that a CPU's caches and a GPU's memory hold their spectra.
_CHUNK_CPU, _CHUNK_GPU = 1024, 65536
# Mel bins multiplied at a time: a filter is zero at most frequencies, so blocks of filters skip most of the matrix.
_BLOCK = 16


class LogMel(nn.Module):
    """Kaldi-compatible log-mel energies of a batch of waveforms.

    Equal to `torchaudio.compliance.kaldi.fbank(htk_compat=True, use_energy=False, window_type=inputs.window, dither=0,
    frame_shift=10)` of each clip minus its mean, as AST, AudioMAE and MAViL compute it: 25 ms frames, only whole ones.
    No gradient flows through it.
    """

    window: Tensor
    one: Tensor
    mel_bank: Tensor

    def __init__(self, inputs: AudioInputs):
        super().__init__()
        rate = inputs.sample_rate
        self.frames = inputs.frames
        self.mel_bins = inputs.mel_bins
        self.shift = int(rate * _SHIFT_MS * 0.001)
        self.size = int(rate * _FRAME_MS * 0.001)
        self.fft_size = 1 << (self.size - 1).bit_length()
        window_N = _WINDOWS[inputs.window](self.size, periodic=False)
        self.register_buffer("window", nn.functional.pad(window_N, (0, self.fft_size - self.size)), persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)

        bank_MK = get_mel_banks(inputs.mel_bins, self.fft_size, float(rate), _LOW_HZ, 0.0, 100.0, -500.0, 1.0)[0]
        # Each row twice: a complex spectrum seen as real numbers has re and im side by side, and
        # sum_k (re_k^2 + im_k^2) bank_k is then one product with the squares.
        self.register_buffer("mel_bank", bank_MK.T.repeat_interleave(2, dim=0).contiguous(), persistent=False)
        self.blocks = [self._block(first) for first in range(0, inputs.mel_bins, _BLOCK)]

    def _block(self, first: int) -> tuple[slice, slice]:
        """(rows of `mel_bank` in which any filter of the block is not zero, mel bins of the block)."""
        mels = slice(first, min(first + _BLOCK, self.mel_bins))
        used = self.mel_bank[:, mels].any(dim=1).nonzero()
        return slice(int(used.min()), int(used.max()) + 1) if len(used) else slice(0, 0), mels

    def num_frames(self, length: Tensor) -> Tensor:
        """Whole frames in `length` samples, at most `frames`; same shape as `length`."""
        whole = torch.div(length - self.size, self.shift, rounding_mode="floor") + 1
        return whole.clamp(0, self.frames)

    @torch.no_grad()
    def forward(self, waveform_BT: Tensor, length_B: Tensor) -> Tensor:
        """Log-mel energies, before normalisation.

        Args:
            waveform_BT: [B, T] float, -1..1, zero after each clip's length.
            length_B: [B] integer, samples of each clip.

        Returns:
            [B, frames, mels] float32; frames that do not lie wholly within the clip are zero (AudioMAE pads the
            log-mel, not the waveform), frames after `frames` are cut.
        """
        B, T = waveform_BT.shape
        device = waveform_BT.device
        waveform_BT = waveform_BT.float()
        mean_B1 = waveform_BT.sum(dim=1, keepdim=True) / length_B.clamp(min=1)[:, None]
        present = max(0, min(self.frames, (T - self.size) // self.shift + 1))
        log_mel_BFM = torch.empty(B, self.frames, self.mel_bins, device=device)
        log_mel_BFM[:, present:] = 0.0
        if B == 0 or present == 0:
            return log_mel_BFM

        samples = (present - 1) * self.shift + self.size
        valid_BF1 = (torch.arange(present, device=device) < self.num_frames(length_B)[:, None]).float()[..., None]
        chunk = _CHUNK_CPU if device.type == "cpu" else _CHUNK_GPU
        clips = min(B, max(1, chunk // present))
        # Room for one group of clips, used again for each; after `size` samples frames are zero.
        centred_BFN, windowed_BFN = torch.zeros(2, clips, present, self.fft_size, device=device)
        energy_BFM = torch.empty(clips, present, self.mel_bins, device=device)
        energy_RM = energy_BFM.view(-1, self.mel_bins)
        blocks = [(rows, self.mel_bank[rows, mels], energy_RM[:, mels]) for rows, mels in self.blocks]
        # Inference mode saves bookkeeping of views; what is written to was made outside and stays an ordinary tensor.
        with torch.inference_mode(), full_precision(device):
            for first in range(0, B, clips):
                part = slice(first, min(first + clips, B))
                size = part.stop - first  # the last group may be smaller; what the one before left is computed and cut
                self._window(waveform_BT[part, :samples] - mean_B1[part], centred_BFN[:size], windowed_BFN[:size])
                squares_RK = torch.view_as_real(torch.fft.rfft(windowed_BFN)).square_().view(len(energy_RM), -1)
                for rows, bank, energy in blocks:
                    torch.mm(squares_RK[:, rows], bank, out=energy)
                energy_BFM.clamp_(min=_FLOOR).log_()
                torch.mul(energy_BFM[:size], valid_BF1[part], out=log_mel_BFM[part, :present])
        return log_mel_BFM

    def _window(self, samples_BT: Tensor, centred_BFN: Tensor, windowed_BFN: Tensor) -> None:
        """Writes the whole frames of the samples into `centred` without their mean, pre-emphasised into `windowed`.

        The operations on samples and their order are torchaudio's. A bin 90 dB below the rest of its frame holds
        hardly more than rounding errors, so that quicker orders (pre-emphasis of the whole waveform, or a fused
        product and difference) differ there by 4e-3 (measured on ESC-50).
        """
        frames_BFN = samples_BT.unfold(1, self.size, self.shift)
        torch.sub(frames_BFN, frames_BFN.mean(dim=2, keepdim=True), out=centred_BFN[..., : self.size])
        # One flat x[t] - 0.97 x[t - 1] over all frames. It is wrong after a frame's last sample, where the window is
        # zero, and at its first, whose predecessor Kaldi takes to be itself. `addcmul` rounds the product before it
        # subtracts, as torchaudio does; `sub(alpha=...)` would not.
        centred, windowed = centred_BFN.view(-1), windowed_BFN.view(-1)
        torch.addcmul(centred[1:], centred[:-1], self.one, value=-_PREEMPHASIS, out=windowed[1:])
        first_BF = centred_BFN[..., 0]
        torch.addcmul(first_BF, first_BF, self.one, value=-_PREEMPHASIS, out=windowed_BFN[..., 0])
        windowed_BFN.mul_(self.window)


def normalise(log_mel_BFM: Tensor, inputs: AudioInputs) -> Tensor:
    """`(x - mean) / (scale * std)`, on padding too."""
    return (log_mel_BFM - inputs.mean) / (inputs.scale * inputs.std)


def roll_gain(waveform_BT: Tensor, length_B: Tensor, key_B: Tensor) -> Tensor:
    """Rolls each clip in a circle by a random time and scales it by Beta(10, 10) + 0.5 (AudioMAE `_roll_mag_aug`).

    The roll stays within the clip's own samples, so that the padding stays where it is.

    Args:
        waveform_BT: [B, T] float.
        length_B: [B] integer, samples of each clip.
        key_B: [B] int64 keys.
    """
    length_B1 = length_B[:, None]
    shift_B1 = (uniform(key_B, "audio roll", 1) * length_B1).long()
    time_T = torch.arange(waveform_BT.shape[1], device=waveform_BT.device)
    source_BT = time_T - shift_B1
    source_BT = torch.where(source_BT < 0, source_BT + length_B1, source_BT)
    source_BT = torch.where(time_T < length_B1, source_BT, time_T)
    gain_B1 = beta(key_B, "audio gain", 10, 10)[:, None] + 0.5
    return waveform_BT.gather(1, source_BT) * gain_B1


def volume(waveform_BT: Tensor, key_B: Tensor, most: float) -> Tensor:
    """Multiplies each clip by a number from U(1 - most, 1 + most) (CrissCross and XKD `wav_aug.py`)."""
    return waveform_BT * (1 + most * (2 * uniform(key_B, "audio volume", 1) - 1))


def augmented_sound(waveform_BT: Tensor, length_B: Tensor, key_B: Tensor, augment: AugmentConfig) -> Tensor:
    """What is changed of waveforms before clips are mixed."""
    if augment.roll_gain:
        waveform_BT = roll_gain(waveform_BT, length_B, key_B)
    return volume(waveform_BT, key_B, augment.volume) if augment.volume else waveform_BT


def _spans(key_B: Tensor, purpose: str, longest: int, size: int, count: int = 1) -> Tensor:
    """[B, size] bool: random spans of each clip, each with the distribution of torchaudio's `mask_along_axis`."""
    width_BK1, start_BK1 = uniform(key_B, purpose, count, 2, 1).unbind(2)
    width_BK1 = width_BK1 * min(longest, size)
    start_BK1 = (start_BK1 * (size - width_BK1)).long()
    position = torch.arange(size, device=key_B.device)
    return ((position >= start_BK1) & (position < start_BK1 + width_BK1.long())).any(dim=1)


def spec_mask(
    log_mel_BFM: Tensor,
    key_B: Tensor,
    freq_mask: int,
    time_mask: int,
    time_masks: int = 1,
    freq_masks: int = 1,
    mask_with: Literal["zero", "mean"] = "zero",
) -> Tensor:
    """SpecAugment: spans of mel bins and of frames of each clip set to 0, or to the clip's mean.

    AudioMAE masks before it normalises, so a masked value ends as `-mean / (scale * std)`, like padding does.

    Args:
        log_mel_BFM: [B, F, M] log-mel before normalisation.
        key_B: [B] int64 keys.
        freq_mask: mel bins; the width of each span is uniform in [0, freq_mask), 0 for none.
        time_mask: frames; the width of each span is uniform in [0, time_mask), 0 for none.
        time_masks, freq_masks: spans of frames and of mel bins, which may overlap.
        mask_with: see `AugmentConfig.mask_with`.
    """
    _, F, M = log_mel_BFM.shape
    freq_B1M = _spans(key_B, "spec mask freq", freq_mask, M, freq_masks)[:, None, :]
    time_BF1 = _spans(key_B, "spec mask time", time_mask, F, time_masks)[:, :, None]
    if mask_with == "zero":
        return log_mel_BFM.masked_fill(freq_B1M | time_BF1, 0.0)
    for mask in (freq_B1M, time_BF1):
        log_mel_BFM = torch.where(mask, log_mel_BFM.mean(dim=(1, 2), keepdim=True), log_mel_BFM)
    return log_mel_BFM


def add_noise(log_mel_BFM: Tensor, key_B: Tensor, most: float) -> Tensor:
    """Adds U(0, 1) a bin, times a level a clip from U(0, most), to normalised log-mels (UAVM `src/dataloader.py`)."""
    level_B11 = most * uniform(key_B, "log-mel noise level", 1, 1)
    return log_mel_BFM + level_B11 * uniform(key_B, "log-mel noise", *log_mel_BFM.shape[1:])


def roll_frames(log_mel_BFM: Tensor, key_B: Tensor, most: int) -> Tensor:
    """Rolls each clip later in a circle by -most..most - 1 frames, padding with it (UAVM `src/dataloader.py`)."""
    F = log_mel_BFM.shape[1]
    later_B1 = (uniform(key_B, "log-mel roll", 1) * (2 * most)).long() - most
    source_BF = (torch.arange(F, device=key_B.device) - later_B1) % F
    return log_mel_BFM.gather(1, source_BF[..., None].expand_as(log_mel_BFM))
