"""decibels: against numbers of AVLnet's own function, and a plain computation of one clip after the other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import signal
from torchaudio.functional import melscale_fbanks

from datamodules.streams.decibels import DecibelMel
from datamodules.streams.mel_banks import mel_bank
from datamodules.types import AudioInputs

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "decibels_avlnet.json").read_text())
CLOSE = {"rtol": 0, "atol": 1e-3}


def noise(samples: int, seed: int) -> np.ndarray:
    return 0.1 * np.random.RandomState(seed).standard_normal(samples)


def sweep(samples: int) -> np.ndarray:
    """Five harmonics of a rising pitch, in syllables: between them, levels are far below the loudest."""
    time = np.arange(samples) / 16000
    pitch = 2 * np.pi * (120 * time + 200 * time**2)
    return 0.3 * sum(np.sin(k * pitch) / k for k in range(1, 6)) * np.sin(3 * np.pi * time) ** 2


SOUNDS = {
    "noise of 10 s": noise(160000, 0),
    "noise, odd length": noise(12347, 1),
    "sweep": sweep(52800),
    "quiet sweep": 1e-3 * sweep(20000),
    "sweep and noise": sweep(31999) + 1e-3 * noise(31999, 2),
    "loud DC": 0.9 + 0.1 * noise(16000, 3),
    "clipping": np.clip(20 * sweep(16160), -1, 1),
    "silence then noise": np.concatenate([np.zeros(4000), noise(4000, 4)]),
    "silence": np.zeros(8000),
    "400 samples": noise(400, 5),
    "399 samples": noise(399, 6),
    "201 samples": noise(201, 7),
    "200 samples": noise(200, 8),
    "7 samples": noise(7, 9),
    "2 samples": noise(2, 10),
    "1 sample": noise(1, 11),
}


def tensor(sound: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(sound.astype(np.float32))


def as_batch(clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    length = torch.tensor([len(clip) for clip in clips])
    return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), length


def inputs_of(frames: int, rate: int = 16000, mels: int = 40) -> AudioInputs:
    return AudioInputs(sample_rate=rate, frames=frames, mel_bins=mels)


def decibels(clip: torch.Tensor, frames: int = 1100) -> torch.Tensor:
    """The frames of one clip alone."""
    mel = DecibelMel(inputs_of(frames))
    length = torch.tensor([len(clip)])
    return mel(clip[None], length)[0, : int(mel.num_frames(length))]


def plain(clip: torch.Tensor, rate: int = 16000, mels: int = 40) -> torch.Tensor:
    """[frames, mels] of one clip, in float64."""
    size, shift = int(rate * 0.025), int(rate * 0.010)
    sound = clip.double().numpy()
    sound = signal.lfilter([1, -0.97], [1], sound - sound.mean())
    sound = np.pad(sound, size // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(sound, size)[::shift]
    power = np.abs(np.fft.rfft(frames * signal.windows.hamming(size, sym=True))) ** 2
    level = 10 * np.log10(np.maximum(power @ mel_bank(size, rate, mels, 20.0).numpy(), 1e-10))
    return torch.from_numpy(np.maximum(level - level.max(), -80)).float()


@pytest.mark.parametrize("golden", GOLDEN["sounds"], ids=lambda golden: golden["sound"])
def test_levels_are_those_of_the_authors_function(golden):
    got = decibels(tensor(SOUNDS[golden["sound"]]))
    assert got.shape == (golden["frames"], 40)
    for frame, values in golden["values"].items():
        torch.testing.assert_close(got[int(frame)], torch.tensor(values), **CLOSE)
    assert abs(float(got.double().sum()) - golden["sum"]) < 1e-3 * got.numel()
    assert abs(float(got.double().square().sum()) - golden["sum_of_squares"]) < 0.16 * got.numel()


def test_the_golden_numbers_are_of_all_sounds():
    assert [golden["sound"] for golden in GOLDEN["sounds"]] == list(SOUNDS)


def test_a_batch_of_different_lengths_is_computed_clip_by_clip(monkeypatch):
    clips = [tensor(sound) for sound in SOUNDS.values()]
    mel = DecibelMel(inputs_of(1100))
    for frames_at_a_time in (7, 128, 10**6):
        monkeypatch.setattr("datamodules.streams.decibels._CHUNK_CPU", frames_at_a_time)
        for clip, got in zip(clips, mel(*as_batch(clips)), strict=True):
            reference = plain(clip)
            torch.testing.assert_close(got[: len(reference)], reference, **CLOSE)
            assert not got[len(reference) :].any(), "frames after the clip are 0"


@pytest.mark.parametrize(("rate", "mels"), [(8000, 23), (22050, 64), (44100, 40), (48000, 80)])
def test_levels_at_any_rate(rate, mels):
    mel = DecibelMel(inputs_of(60, rate, mels))
    shift = mel.shift
    clips = [tensor(noise(samples, samples)) for samples in (1, 20 * shift, 20 * shift + 1, 33 * shift - 1)]
    waveform, length = as_batch(clips)
    for clip, got, frames in zip(clips, mel(waveform, length), mel.num_frames(length), strict=True):
        reference = plain(clip, rate, mels)
        assert frames == len(reference)
        torch.testing.assert_close(got[:frames], reference, **CLOSE)


@pytest.mark.parametrize(("size", "rate", "mels"), [(400, 16000, 40), (200, 8000, 23), (1200, 48000, 80)])
def test_the_bank_is_slaneys(size, rate, mels):
    torch.set_default_dtype(torch.float64)  # torchaudio computes in it
    try:
        theirs = melscale_fbanks(size // 2 + 1, 20.0, rate / 2, mels, rate, norm="slaney", mel_scale="slaney")
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(mel_bank(size, rate, mels, 20.0), theirs, rtol=0, atol=1e-14)


@given(lengths=st.lists(st.integers(0, 1500), min_size=1, max_size=5), seed=st.integers(0, 99))
@example(lengths=[0, 1, 2, 199, 200], seed=0)
@example(lengths=[201, 400, 159, 160, 161], seed=1)
@settings(max_examples=40, deadline=None)
def test_each_clip_of_a_batch_is_as_it_is_alone(lengths, seed):
    waveform, length = as_batch([tensor(noise(samples, seed + i)) for i, samples in enumerate(lengths)])
    mel = DecibelMel(inputs_of(8))
    frames = mel.num_frames(length)
    assert frames.tolist() == [min(8, 1 + samples // 160) if samples else 0 for samples in lengths]
    for samples, clip, got, own in zip(lengths, waveform, mel(waveform, length), frames, strict=True):
        assert not got[own:].any()
        if samples:
            torch.testing.assert_close(got[:own], plain(clip[:samples])[:8], **CLOSE)


def test_ten_seconds_are_1001_frames_of_which_the_last_is_cut():
    sound = tensor(SOUNDS["noise of 10 s"])
    whole, cut = decibels(sound, 1001), decibels(sound, 1000)
    assert len(whole) == 1001 and len(cut) == 1000
    assert torch.equal(cut, whole[:1000])
    lengths = torch.tensor([[0, 1, 159], [160, 159999, 160000]])
    assert DecibelMel(inputs_of(1000)).num_frames(lengths).tolist() == [[0, 1, 1], [2, 1000, 1000]]


def test_sound_that_is_cut_still_counts_as_the_loudest():
    sound = tensor(noise(8000, 0))
    sound[6000:] *= 100
    assert decibels(sound, 20).max() < -30
    assert torch.equal(decibels(sound, 20), decibels(sound, 50)[:20])


@pytest.mark.parametrize("gain", [10 ** (-4 / 20), 0.1, 5.0])
def test_the_volume_does_not_matter(gain):
    """So neither does sox's gain of -4 dB."""
    sound = tensor(SOUNDS["noise, odd length"])
    torch.testing.assert_close(decibels(gain * sound), decibels(sound), **CLOSE)


def test_the_reference_is_each_clips_own_loudest():
    sounds = [tensor(noise(4000, 0)), 0.01 * tensor(noise(3000, 1)), 0.1 * tensor(noise(2000, 2))]
    mel = DecibelMel(inputs_of(26))
    waveform, length = as_batch(sounds)
    for level, frames in zip(mel(waveform, length), mel.num_frames(length), strict=True):
        assert level[:frames].max() == 0 and (level[:frames] == 0).sum() == 1


def test_what_is_more_than_80_db_below_is_raised_to_minus_80():
    # Each part without a mean of its own, which would be left in the others.
    parts = [gain * signal.detrend(noise(4000, seed), type="constant") for seed, gain in enumerate((1, 1e-6, 0.1))]
    level = decibels(tensor(np.concatenate(parts)))
    assert level.min() == -80
    assert (level[30:45] == -80).all() and (level[55:] > -80).all()


def test_silence_is_0_db():
    silent = torch.zeros(2, 1600)
    assert torch.equal(DecibelMel(inputs_of(20))(silent, torch.tensor([1600, 700])), torch.zeros(2, 20, 40))
    constant = decibels(torch.full((1600,), 0.5))
    assert torch.equal(constant, torch.zeros(11, 40))


def test_an_empty_batch_and_empty_clips_have_no_frames():
    mel = DecibelMel(inputs_of(8))
    assert mel(torch.zeros(0, 1600), torch.zeros(0, dtype=torch.int64)).shape == (0, 8, 40)
    for samples in (0, 1600):
        assert torch.equal(mel(torch.zeros(2, samples), torch.tensor([0, 0])), torch.zeros(2, 8, 40))


def test_levels_are_float32_under_autocast_and_whatever_training_uses(monkeypatch):
    mel, batch = DecibelMel(inputs_of(100)), as_batch([tensor(sweep(16000)), tensor(noise(9000, 0))])
    expected = mel(*batch)
    inside = []
    multiply = torch.Tensor.__matmul__

    def recorded(*args):
        inside.append(torch.backends.mkldnn.matmul.fp32_precision)
        return multiply(*args)

    monkeypatch.setattr(torch.Tensor, "__matmul__", recorded)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = mel(*batch)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert got.dtype == torch.float32 and torch.equal(got, expected)
    assert inside and set(inside) == {"ieee"}


def test_levels_can_be_trained_on():
    level = DecibelMel(inputs_of(8))(*as_batch([tensor(noise(1600, 0))]))
    weight = torch.ones(40, requires_grad=True)
    (level * weight).sum().backward()
    torch.testing.assert_close(weight.grad, level.sum(dim=(0, 1)))


def test_there_is_nothing_to_save():
    assert not DecibelMel(AudioInputs()).state_dict()
