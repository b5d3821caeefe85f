"""librosa's log-mels against librosa's numbers and a plain computation; BYOL-A's crop against torch's interpolation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchaudio.functional import melscale_fbanks

from datamodules.base import Features
from datamodules.errors import DataError
from datamodules.keyed import uniform
from datamodules.streams.audio import spec_mask, volume
from datamodules.streams.librosa_mel import LibrosaMel
from datamodules.streams.mel_banks import mel_bank
from datamodules.streams.resize_crop import resize_crop, time_warp
from datamodules.types import AudioInputs, AugmentConfig, Inputs, RawBatch
from tests.datamodules.test_audio import ESC50, decode

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "librosa_mel.json").read_text())
TIME = np.arange(32000) / 16000
PITCH = 2 * np.pi * (120 * TIME + 200 * TIME**2)
SWEEP = 0.3 * sum(np.sin(k * PITCH) / k for k in range(1, 6)) * np.sin(3 * np.pi * TIME) ** 2
NOISE = np.random.RandomState(0).standard_normal(32000)
SOUNDS = {
    "sweep and noise": SWEEP + 1e-4 * NOISE,
    "noise": 0.1 * NOISE,
    "short sweep": SWEEP[:9000],
    "silence": np.zeros(32000),
}
KEYS = torch.arange(64) * 7919 + 5


def log_mel(sound: np.ndarray, inputs: AudioInputs) -> torch.Tensor:
    """[frames, mels] of one clip."""
    waveform = torch.from_numpy(sound.astype(np.float32))[None]
    return LibrosaMel(inputs)(waveform, torch.tensor([waveform.shape[1]]))[0]


@pytest.mark.parametrize("golden", GOLDEN["sounds"], ids=lambda g: f"{g['sound']}, {g['hop']}, {g['edges']}")
def test_log_mels_are_librosas(golden):
    inputs = AudioInputs(
        "librosa", hop=golden["hop"], samples=32000, frames=golden["frames"], mel_bins=80, edges=golden["edges"]
    )
    got = log_mel(SOUNDS[golden["sound"]], inputs)
    for frame, values in golden["values"].items():
        torch.testing.assert_close(got[int(frame)], torch.tensor(values), rtol=0, atol=1e-4)
    assert got.sum() == pytest.approx(golden["sum"], rel=1e-5)
    assert got.square().sum() == pytest.approx(golden["sum_of_squares"], rel=1e-5)


@pytest.mark.skipif(not ESC50.is_dir(), reason="ESC-50 is not here")
def test_log_mels_of_a_recording_are_those_of_a_plain_computation():
    sound = decode(sorted(ESC50.glob("*.ogg"))[3], 16000).double().numpy()[:48000]
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, 512, mode="reflect"), 1024)[::160]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    plain = np.log(power @ mel_bank(1024, 16000, 80, 0.0).numpy() + np.finfo(np.float32).eps)
    got = log_mel(sound, AudioInputs("librosa", frames=301, mel_bins=80))
    torch.testing.assert_close(got, torch.from_numpy(plain).float(), rtol=0, atol=1e-4)


def test_banks_of_htk_are_torchaudios():
    torch.set_default_dtype(torch.float64)  # torchaudio computes in it
    try:
        theirs = melscale_fbanks(513, 0.0, 8000.0, 80, 16000, norm=None, mel_scale="htk")
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(mel_bank(1024, 16000, 80, 0.0, "htk"), theirs, rtol=0, atol=1e-12)


def test_seconds_frames_and_clips_of_a_batch_do_not_depend_on_others():
    inputs = AudioInputs("librosa", frames=101, mel_bins=16)
    assert inputs.seconds == 1.0 and AudioInputs("librosa", frames=448, hop=143, samples=64000).seconds == 4.0
    waveform, length = torch.from_numpy(SWEEP[:24000]).float().view(2, 12000), torch.tensor([12000, 400])
    waveform[1, 400:] = 0
    mel = LibrosaMel(inputs)
    together = mel(waveform, length)
    assert mel.num_frames(torch.tensor([0, 1, 160, 12000, 16000, 99999])).tolist() == [0, 1, 2, 76, 101, 101]
    torch.testing.assert_close(together[1], mel(waveform[1:, :400], length[1:])[0])
    assert (together[1, 10:] == np.float32(np.log(np.finfo(np.float32).eps))).all(), "silent past its end"


def test_volume_is_one_factor_a_clip():
    changed = volume(torch.ones(64, 5), KEYS, 0.2)
    assert (changed == changed[:, :1]).all() and 0.8 <= changed.min() < 0.85 and 1.15 < changed.max() <= 1.2


def test_masks_of_the_mean_hide_what_is_there_and_leave_the_rest():
    mel = torch.randn(64, 50, 20) + 3
    masked = spec_mask(mel, KEYS, 8, 15, 2, 2, "mean")
    hidden = masked != mel
    assert hidden.any(dim=(1, 2)).float().mean() > 0.9 and not hidden.all()
    for clip, before in zip(masked, mel, strict=True):
        values = clip[clip != before].unique()
        assert len(values) <= 2, "the mean, and that after the first masks"
        assert ((values - before.mean()).abs() < 0.5).all()
    assert torch.equal(spec_mask(mel, KEYS, 8, 15), spec_mask(mel, KEYS, 8, 15, 1, 1, "zero"))


def test_the_crop_is_torchs_bicubic_interpolation_of_a_box_of_the_canvas():
    mel = torch.randn(64, 40, 16)
    got = resize_crop(mel, KEYS, [0.6, 1.5])
    u = uniform(KEYS, "log-mel resize crop", 4)
    for clip, whole, (f, m, at_f, at_m) in zip(got, mel, u.tolist(), strict=True):
        height, width = min(int((0.6 + 0.9 * m) * 16), 16), min(int((0.6 + 0.9 * f) * 40), 60)
        canvas = torch.zeros(60, 16)
        canvas[10:50] = whole  # BYOL-A puts it into the middle
        top, left = int(at_m * (16 - height + 1)), int(at_f * (60 - width + 1))
        box = canvas[left : left + width, top : top + height]
        expected = interpolate(box[None, None], (40, 16), mode="bicubic", align_corners=True)[0, 0]
        torch.testing.assert_close(clip, expected, rtol=0, atol=1e-4)


def test_a_warp_in_time_is_two_resized_stretches_and_every_one_is_drawn():
    """Of 12 frames one of those from 3 to 8 comes to 2 before or up to 3 after its place."""
    mel, keys = torch.randn(1, 12, 5, generator=torch.Generator().manual_seed(0)), torch.arange(600)
    ways = {
        (at, to): torch.cat([
            interpolate(part[None], (frames, 5), mode="bicubic", align_corners=False)[0, 0]
            for part, frames in ((mel[:, :at], to), (mel[:, at:], 12 - to))
        ])
        for at in range(3, 9)
        for to in range(at - 2, at + 4)
    }  # fmt: skip
    found = set()
    for warped in time_warp(mel.expand(600, -1, -1), keys, 3):
        same = {way for way, expected in ways.items() if torch.allclose(warped, expected, atol=1e-5)}
        assert same
        found |= same
    assert found == set(ways)
    assert torch.equal(time_warp(mel, keys[:1], 6), mel)  # too short


@pytest.mark.parametrize("scale", [[1.0], [1.5, 0.6], [0.0, 1.0]])
def test_a_crop_that_is_no_pair_is_named(scale):
    with pytest.raises(DataError, match=r"augment\.resize_crop=.* e\.g\. \[0\.6, 1\.5\]"):
        resize_crop(torch.zeros(1, 8, 8), KEYS[:1], scale)


def test_sound_too_short_to_be_mirrored_is_named():
    with pytest.raises(DataError, match="480 samples .* read more frames"):
        LibrosaMel(AudioInputs("librosa", frames=4))


def test_streams_are_cropped_after_they_are_normalised_and_only_in_training():
    inputs = Inputs(AudioInputs("librosa", frames=101, mel_bins=16, mean=-5.0, std=4.0, scale=1.0), None)
    raw = RawBatch(
        clip_id=["a"],
        key=KEYS[:1],
        audio=torch.from_numpy(SWEEP[None, :16000]).float(),
        audio_length=torch.tensor([16000]),
        label=torch.ones(1, 1),
    )
    plain = Features(inputs, AugmentConfig())(dict(raw), train=True)["audio"]
    augmented = Features(inputs, AugmentConfig(resize_crop=[0.6, 1.5]))
    torch.testing.assert_close(
        augmented(dict(raw), train=True)["audio"][:, 0], resize_crop(plain[:, 0], KEYS[:1], [0.6, 1.5])
    )
    assert torch.equal(augmented(dict(raw), train=False)["audio"], plain)
    warped = Features(inputs, AugmentConfig(time_warp=20))
    torch.testing.assert_close(warped(dict(raw), train=True)["audio"][:, 0], time_warp(plain[:, 0], KEYS[:1], 20))
    assert torch.equal(warped(dict(raw), train=False)["audio"], plain)
