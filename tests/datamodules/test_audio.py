"""audio: log-mel against torchaudio, augmentations against their definitions."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torchaudio.functional as AF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchaudio.compliance.kaldi import fbank

from datamodules.precision import full_precision
from datamodules.streams.audio import LogMel, add_noise, normalise, roll_frames, roll_gain, spec_mask
from datamodules.types import AudioInputs

ESC50 = Path(__file__).parents[3] / "shared" / "data" / "ESC-50" / "audio"
FLOOR = float(np.log(np.finfo(np.float32).eps))


def kaldi(clip: torch.Tensor, inputs: AudioInputs) -> torch.Tensor:
    """The reference, as AudioMAE's `dataset.py` calls it."""
    return fbank(
        (clip - clip.mean())[None],
        htk_compat=True,
        sample_frequency=inputs.sample_rate,
        use_energy=False,
        window_type=inputs.window,
        num_mel_bins=inputs.mel_bins,
        dither=0.0,
        frame_shift=10,
    )


def as_batch(clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    length = torch.tensor([len(clip) for clip in clips])
    return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), length


def assert_equals_kaldi(clips: list[torch.Tensor], inputs: AudioInputs) -> None:
    got = LogMel(inputs)(*as_batch(clips))
    assert got.shape == (len(clips), inputs.frames, inputs.mel_bins)
    for clip, log_mel in zip(clips, got, strict=True):
        reference = kaldi(clip, inputs)[: inputs.frames]
        torch.testing.assert_close(log_mel[: len(reference)], reference, rtol=0, atol=1e-3)
        assert not log_mel[len(reference) :].any(), "frames after the clip are zero"


def decode(path: Path, rate: int) -> torch.Tensor:
    resampler = av.AudioResampler("flt", "mono", rate)
    with av.open(str(path)) as container:
        blocks = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    blocks += resampler.resample(None)
    return torch.from_numpy(np.concatenate([block.to_ndarray() for block in blocks], axis=1)[0])


def noise(seconds: float, rate: int = 16000, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def chirps(seconds: float, rate: int = 16000) -> torch.Tensor:
    """Like speech: harmonics of a moving pitch, in syllables, over a little noise."""
    time = torch.arange(round(seconds * rate)) / rate
    pitch = 2 * torch.pi * (120 * time + 8 * torch.sin(2 * torch.pi * 0.7 * time))
    voice = sum(torch.sin(k * pitch) / k for k in range(1, 20))
    return 0.3 * voice * torch.sin(torch.pi * 3 * time).square() + 0.01 * noise(seconds, rate)


SYNTHETIC = {
    "noise": noise(2.0),
    "chirps": chirps(3.3),
    "chirps, quiet": 1e-3 * chirps(3.3),
    "loud DC": 0.9 + 0.01 * noise(2.0),
    "clipping": (50 * chirps(2.0)).clamp(-1, 1),
    "silence with dither": torch.randint(-1, 2, (32000,), generator=torch.Generator().manual_seed(1)) / 32768,
    "digital silence": torch.zeros(32000),
    "silence then sound": torch.cat([torch.zeros(16000), noise(1.0)]),
    "one frame": noise(0.025),
    "odd length": noise(1.0)[:12347],
    "last frame just missing": noise(1.0)[: 400 + 160 * 20 - 1],
    "last frame just there": noise(1.0)[: 400 + 160 * 20],
}


@pytest.mark.parametrize("name", SYNTHETIC)
def test_log_mel_equals_kaldi_on_synthetic_sound(name):
    assert_equals_kaldi([SYNTHETIC[name]], AudioInputs(frames=400))


def test_log_mel_equals_kaldi_on_a_batch_of_different_lengths():
    assert_equals_kaldi(list(SYNTHETIC.values()), AudioInputs(frames=400))


@pytest.mark.skipif(not ESC50.is_dir(), reason="ESC-50 is not here")
@pytest.mark.parametrize("rate", [16000, 44100])
def test_log_mel_equals_kaldi_on_recordings(rate):
    clips = [decode(path, rate) for path in sorted(ESC50.glob("*.ogg"))[::20]]
    assert_equals_kaldi(clips, AudioInputs(sample_rate=rate, frames=512))


@pytest.mark.parametrize(("rate", "mels"), [(8000, 64), (16000, 23), (22050, 128), (44100, 128), (48000, 80)])
def test_log_mel_equals_kaldi_at_any_rate(rate, mels):
    assert_equals_kaldi([noise(1.0, rate), chirps(0.7, rate)], AudioInputs(sample_rate=rate, frames=110, mel_bins=mels))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_log_mel_equals_kaldi_with_a_hamming_window(rate):
    clips, inputs = [noise(1.0, rate), chirps(0.7, rate)], AudioInputs(sample_rate=rate, frames=110, window="hamming")
    assert_equals_kaldi(clips, inputs)
    hanning = LogMel(AudioInputs(sample_rate=rate, frames=110))(*as_batch(clips))
    assert (LogMel(inputs)(*as_batch(clips)) - hanning).abs().max() > 0.1, "the windows differ"


def test_log_mel_equals_kaldi_when_clips_share_a_chunk_and_when_not(monkeypatch):
    clips = [noise(0.3, seed=seed) for seed in range(7)]
    for frames_at_a_time in (1, 60, 10**6):
        monkeypatch.setattr("datamodules.streams.audio._CHUNK_CPU", frames_at_a_time)
        assert_equals_kaldi(clips, AudioInputs(frames=40))


def test_longer_sound_is_cut():
    assert_equals_kaldi([noise(2.0), noise(0.5)], AudioInputs(frames=64))


def test_sound_shorter_than_a_frame_has_no_frames():
    inputs = AudioInputs(frames=16)
    assert not LogMel(inputs)(*as_batch([noise(0.024)])).any()
    assert_equals_kaldi([noise(0.1)], inputs)
    together = LogMel(inputs)(*as_batch([noise(0.024), noise(0.1)]))
    assert not together[0].any() and together[1].any()


def test_an_empty_batch_and_an_empty_clip_have_no_frames():
    log_mel = LogMel(AudioInputs(frames=8))
    assert log_mel(torch.zeros(0, 1600), torch.zeros(0, dtype=torch.int64)).shape == (0, 8, 128)
    assert not log_mel(torch.zeros(2, 1600), torch.tensor([0, 0])).any()


@given(st.permutations(range(5)))
@settings(max_examples=10, deadline=None)
def test_log_mel_of_a_clip_does_not_depend_on_its_place(order):
    waveform, length = as_batch([noise(0.2 + 0.05 * i, seed=i) for i in range(5)])
    log_mel = LogMel(AudioInputs(frames=50))
    assert torch.equal(log_mel(waveform[order], length[order]), log_mel(waveform, length)[order])


def float32_precisions() -> list[str]:
    """What float32 products and convolutions are made in, on CUDA and in oneDNN."""
    backends = (torch.backends.cuda, torch.backends.mkldnn, torch.backends.cudnn)
    operations = ("matmul", "conv", "rnn")
    found = [getattr(backend, name, None) for backend in backends for name in operations]
    return [operation.fp32_precision for operation in found if operation is not None]


def test_log_mel_is_float32_under_autocast():
    log_mel, batch = LogMel(AudioInputs(frames=100)), as_batch([chirps(1.0), noise(1.0)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = log_mel(*batch)
    assert got.dtype == torch.float32
    assert torch.equal(got, log_mel(*batch))


def test_log_mel_multiplies_in_float32_whatever_training_uses(monkeypatch):
    inside = []
    multiply = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *args, **kw: inside.append(float32_precisions()) or multiply(*args, **kw))
    torch.set_float32_matmul_precision("medium")
    try:
        before = float32_precisions()
        LogMel(AudioInputs(frames=10))(*as_batch([noise(0.1)]))
        assert before == float32_precisions() and {"tf32", "bf16"} <= set(before), "the setting is kept"
        with pytest.raises(KeyError), full_precision(torch.device("cpu")):
            raise KeyError
        assert before == float32_precisions(), "also after an error"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert inside and all(set(precisions) == {"ieee"} and len(precisions) == 6 for precisions in inside)


def test_log_mel_can_be_trained_on():
    log_mel = LogMel(AudioInputs(frames=8))(*as_batch([noise(0.1)]))
    weight = torch.ones(128, requires_grad=True)
    (log_mel * weight).sum().backward()
    torch.testing.assert_close(weight.grad, log_mel.sum(dim=(0, 1)))


def test_log_mel_has_nothing_to_save():
    assert not LogMel(AudioInputs()).state_dict()


@pytest.mark.parametrize("scale", [2.0, 1.0])
def test_normalise_is_the_fields_formula(scale):
    inputs = AudioInputs(scale=scale)
    x = torch.tensor([inputs.mean, inputs.mean + inputs.std, inputs.mean - 2 * inputs.std, 0.0])
    torch.testing.assert_close(normalise(x, inputs), torch.tensor([0.0, 1.0, -2.0, -inputs.mean / inputs.std]) / scale)


# --- Augmentations ---------------------------------------------------------------------------------------------------

KEYS = torch.arange(1000, 1064)


def test_roll_gain_is_a_roll_within_the_clip_and_a_gain():
    clips = [noise(0.1 + 0.001 * i, seed=i) for i in range(16)]
    waveform, length = as_batch(clips)
    out = roll_gain(waveform, length, KEYS[:16])
    shifts = set()
    for clip, rolled in zip(clips, out, strict=True):
        assert not rolled[len(clip) :].any(), "padding stays padding"
        gain = rolled.norm() / clip.norm()
        assert 0.5 < gain < 1.5
        spectrum = torch.fft.rfft(rolled[: len(clip)]) * torch.fft.rfft(clip).conj()
        shift = int(torch.fft.irfft(spectrum, n=len(clip)).argmax())
        torch.testing.assert_close(rolled[: len(clip)], gain * clip.roll(shift))
        shifts.add(shift)
    assert len(shifts) > 8


def test_roll_is_uniform_over_the_clip_and_gain_is_beta():
    count, size = 4000, 500
    waveform = torch.zeros(count, 2 * size)
    waveform[:, 0] = 1.0
    out = roll_gain(waveform, torch.full((count,), size), torch.arange(count))
    gain, place = out.max(dim=1)
    assert stats.kstest((place + 0.5).numpy() / size, "uniform").pvalue > 1e-3
    assert stats.kstest(gain.numpy() - 0.5, stats.beta(10, 10).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(place.numpy(), gain.numpy())[0, 1]) < 4 / np.sqrt(count)


def masked_spans(freq_mask: int, time_mask: int, count: int = 3000) -> tuple[torch.Tensor, torch.Tensor]:
    """[count, 40] masked mel bins and [count, 100] masked frames."""
    masked = spec_mask(torch.ones(count, 100, 40), torch.arange(count), freq_mask, time_mask) == 0
    return masked.all(dim=1), masked.all(dim=2)


def test_spec_mask_sets_one_span_of_bins_and_one_of_frames_to_zero():
    log_mel = torch.randn(64, 100, 40).clamp(min=0.1)
    out = spec_mask(log_mel, KEYS, 20, 50)
    zero = out == 0
    assert torch.equal(out[~zero], log_mel[~zero])
    for bins, frames, clip in zip(zero.all(dim=1), zero.all(dim=2), zero, strict=True):
        assert torch.equal(clip, frames[:, None] | bins)
        for span in (bins, frames):
            edges = torch.nn.functional.pad(span.int(), (1, 1)).diff().abs().sum()
            assert edges in (0, 2), "one span at most"


def test_spec_mask_is_distributed_as_torchaudios():
    torch.manual_seed(0)
    ones = torch.ones(3000, 1, 40, 100)
    bins, frames = masked_spans(20, 50)
    for got, axis, param in ((bins, 2, 20), (frames, 3, 50)):
        theirs = AF.mask_along_axis_iid(ones, param, 0.0, axis) == 0
        reference = theirs.all(dim=5 - axis)[:, 0]
        assert got.sum(dim=1).max() == param - 1, "the width is below the parameter"
        for statistic in (lambda m: m.sum(dim=1), lambda m: m.int().argmax(dim=1)):
            assert stats.ks_2samp(statistic(got).numpy(), statistic(reference).numpy()).pvalue > 1e-3


def test_spec_mask_of_bins_and_of_frames_are_independent():
    bins, frames = masked_spans(20, 50)
    for statistic in (lambda m: m.sum(dim=1), lambda m: m.int().argmax(dim=1)):
        assert abs(np.corrcoef(statistic(bins).numpy(), statistic(frames).numpy())[0, 1]) < 4 / np.sqrt(3000)


def test_spec_mask_of_zero_does_nothing_and_one_larger_than_the_axis_is_cut():
    log_mel = torch.ones(8, 10, 4)
    assert torch.equal(spec_mask(log_mel, KEYS[:8], 0, 0), log_mel)
    assert (masked_spans(1000, 0)[0].sum(dim=1) < 40).all()


def test_time_masks_are_a_union_of_independent_spans_the_first_as_without_the_others():
    count, size, longest = 3000, 100, 20
    spans = [spec_mask(torch.ones(count, size, 1), torch.arange(count), 0, longest, n)[..., 0] == 0 for n in (1, 2, 4)]
    one, two, four = spans
    assert (two | ~one).all() and (four | ~two).all(), "a further mask takes nothing back"
    torch.manual_seed(0)
    theirs = [AF.mask_along_axis_iid(torch.ones(count, 1, 1, size), longest, 0.0, 3) == 0 for _ in range(4)]
    reference = torch.stack(theirs).any(dim=0)[:, 0, 0]
    for statistic in (lambda m: m.sum(dim=1), lambda m: m.int().diff(dim=1).abs().sum(dim=1)):
        assert stats.ks_2samp(statistic(four).numpy(), statistic(reference).numpy()).pvalue > 1e-3


def test_noise_is_uniform_a_bin_times_a_uniform_level_a_clip():
    """As `fbank + torch.rand(F, M) * np.random.rand() / 10` (UAVM `src/dataloader.py`)."""
    key, log_mel = torch.arange(3000), torch.randn(3000, 20, 10)
    added = add_noise(log_mel, key, 0.1) - log_mel
    level, mean = added.amax(dim=(1, 2)), added.mean(dim=(1, 2))
    assert added.min() > -1e-6 and level.max() <= 0.1 + 1e-6
    rng = np.random.default_rng(0)
    theirs = rng.random((3000, 20, 10)) * rng.random((3000, 1, 1)) / 10
    for got, reference in ((level, theirs.max(axis=(1, 2))), (mean, theirs.mean(axis=(1, 2)))):
        assert stats.ks_2samp(got.numpy(), reference).pvalue > 1e-3
    within = added[level > 0.02] / level[level > 0.02, None, None]
    assert stats.kstest(within.flatten()[::100].numpy(), "uniform").pvalue > 1e-3
    assert torch.equal(add_noise(log_mel, key, 0.0), log_mel)


def test_frames_are_rolled_as_torch_rolls_them_by_as_many_as_numpys_randint():
    """As `torch.roll(fbank, np.random.randint(-10, 10), 0)` (UAVM `src/dataloader.py`)."""
    count, most = 4000, 10
    log_mel = torch.randn(30, 2).expand(count, -1, -1)
    out = roll_frames(log_mel, torch.arange(count), most)
    places = (out[:, :, 0] == log_mel[:, :1, 0]).int().argmax(dim=1)  # where the first frame has gone
    steps = torch.where(places < 15, places, places - 30)
    assert sorted(steps.unique().tolist()) == list(range(-most, most))
    for step in range(-most, most):
        assert (out[steps == step] == log_mel[0].roll(step, 0)).all()
    counts = torch.bincount(steps + most)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def make_batch(size: int = 64) -> dict:
    generator = torch.Generator().manual_seed(3)
    length = torch.randint(100, 400, (size,), generator=generator)
    waveform = torch.randn(size, 400, generator=generator) + 0.5
    waveform *= torch.arange(400) < length[:, None]
    return {
        "clip_id": [f"clip{i}" for i in range(size)],
        "key": torch.arange(size),
        "waveform": waveform,
        "waveform_length": length,
        "frames": torch.randint(0, 256, (size, 2, 8, 8, 3), dtype=torch.uint8, generator=generator),
        "label": torch.eye(size),
    }


@given(st.permutations(range(6)))
@settings(max_examples=20, deadline=None)
def test_augmentation_of_a_clip_depends_on_its_key_alone(order):
    batch = make_batch(6)
    waveform, length, key = batch["waveform"], batch["waveform_length"], batch["key"]
    whole = roll_gain(waveform, length, key)
    assert torch.equal(roll_gain(waveform[order], length[order], key[order]), whole[order])
    assert torch.equal(roll_gain(waveform[:1], length[:1], key[:1]), whole[:1])
    log_mel = waveform.view(6, 40, 10) + 5
    for augment in (
        lambda x, k: spec_mask(x, k, 5, 20, 3),
        lambda x, k: add_noise(x, k, 0.1),
        lambda x, k: roll_frames(x, k, 10),
    ):
        changed = augment(log_mel, key)
        assert torch.equal(augment(log_mel[order], key[order]), changed[order])
        assert torch.equal(augment(log_mel[:1], key[:1]), changed[:1])
