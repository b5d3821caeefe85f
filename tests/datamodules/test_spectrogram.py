"""Log-spectrograms, and windows on a grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import get_window, spectrogram

from datamodules.loading.windows import OWN, places
from datamodules.streams.spectrogram import SpectrogramInputs, SpectrogramTransform
from datamodules.types import AugmentConfig, WindowConfig


def made(waveform: torch.Tensor, train: bool = False, **options) -> tuple[torch.Tensor, torch.Tensor]:
    raw = {"": waveform, "length": torch.tensor([waveform.shape[1]] * len(waveform))}
    transform, key = SpectrogramTransform(SpectrogramInputs(**options), AugmentConfig()), torch.arange(len(waveform))
    seen = transform(transform.augmented(raw, key) if train else raw, key, train)
    return seen[""], seen["length"]


def test_it_is_scipy_s_and_has_200_frames_of_257_frequencies():
    """Frames begin 120 samples before the sound, where scipy has whole ones alone: 199."""
    waveform = 0.3 * torch.randn(2, 48000, generator=torch.Generator().manual_seed(0))
    seen, length = made(waveform)
    assert seen.shape == (2, 1, 257, 200) and length.tolist() == [200, 200]
    sixteen_bits = np.pad(waveform.double().numpy() * 2**15, ((0, 0), (120, 120)))
    settings = {"nperseg": 480, "noverlap": 240, "nfft": 512, "detrend": False}
    power = spectrogram(sixteen_bits, 48000, get_window("hann", 480), **settings)[2]
    torch.testing.assert_close(
        seen[:, 0].double(), torch.from_numpy(10 * np.log10(power + 1e-7) / 26.68), atol=1e-4, rtol=0
    )
    assert spectrogram(sixteen_bits[:, 120:-120], 48000, **settings)[2].shape[2] == 199


def test_sound_that_ends_is_followed_by_the_floor_or_starts_over():
    waveform = torch.randn(1, 24000, generator=torch.Generator().manual_seed(0))
    silent, length = made(waveform)
    assert length.tolist() == [100] and silent[..., 102:].unique().tolist() == pytest.approx([-70 / 26.68])
    again, length = made(waveform, past_end="repeat")
    assert length.tolist() == [200]
    torch.testing.assert_close(again[..., 102:199], again[..., 2:99])


def test_in_training_clips_are_louder_or_softer_by_up_to_a_share():
    waveform = torch.full((400, 1920), 0.25)
    usual, drawn = made(waveform, seconds=0.04), made(waveform, train=True, seconds=0.04, gain=0.1)
    factor = 10 ** ((drawn[0] - usual[0])[:, 0, 0, 4] * 26.68 / 20)
    assert 0.9 < factor.min() < 0.905 and 1.095 < factor.max() < 1.1
    assert torch.equal(made(waveform, seconds=0.04, gain=0.1)[0], usual[0])


@pytest.mark.parametrize("grid", [0.04, 0.125])
def test_the_clip_s_own_window_begins_on_the_grid_wherever_there_is_room(grid):
    windows, lengths = {"around": WindowConfig(lies="shifted", by=[-0.5, -0.5])}, {OWN: 0.04, "around": 1.0}
    found = [places(windows, lengths, 3.0, u, lambda _: 0.0, grid) for u in np.linspace(0, 1, 4000)]
    steps = torch.tensor([each[OWN][0] for each in found], dtype=torch.float64) / grid
    torch.testing.assert_close(steps, steps.round(), atol=1e-6, rtol=0)
    whole, counts = steps.round().unique(return_counts=True)
    expected = np.arange(np.ceil(0.5 / grid - 1e-6), 2.5 / grid + 1e-6)
    assert whole.tolist() == expected.tolist() and counts.max() - counts.min() <= 2
    assert all(each["around"][0] == pytest.approx(each[OWN][0] - 0.5) for each in found)
    (tight,) = places(windows, lengths, 1.0, 0.3, lambda _: 0.0, 0.3)[OWN]
    assert tight == 0.5  # no multiple fits
