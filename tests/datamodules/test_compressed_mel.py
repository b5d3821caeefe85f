"""Log-mels as TensorFlow makes them for VATT: its numbers, lengths and silence."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from datamodules.keyed import stable_hash, uniform
from datamodules.streams.compressed_mel import CompressedMelInputs, CompressedMelStream
from datamodules.types import AugmentConfig

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "compressed_mel.json").read_text())
OPTIONS = CompressedMelInputs(sample_rate=16000, seconds=0.512, window_samples=512, hop=256, mel_bins=40)


def made(sound_BT: torch.Tensor, length_B: torch.Tensor) -> dict[str, torch.Tensor]:
    transform = CompressedMelStream("sound", OPTIONS).transform(AugmentConfig())
    return transform({"": sound_BT, "length": length_B}, torch.arange(len(sound_BT)), False)


def test_values_are_tensorflow_s():
    drawn = uniform(torch.tensor([stable_hash("vatt parity", "mel")]), "value", 2, 8192)[0] - 0.5
    seen = made(drawn * torch.tensor([[1.0], [0.01]]), torch.tensor([8192, 8192]))
    assert list(seen[""].squeeze(1).shape) == GOLDEN["shape"] == [2, OPTIONS.frames, 40]
    torch.testing.assert_close(seen[""].flatten()[::7], torch.tensor(GOLDEN["every_7th"]), atol=1e-4, rtol=0)


def test_silence_is_zero_and_lengths_are_counted_in_frames():
    seen = made(torch.zeros(3, 8192), torch.tensor([0, 257, 8192]))
    assert (seen[""] == 0).all() and seen["length"].tolist() == [0, 2, 32]
    example = CompressedMelStream("sound", OPTIONS).example(3, "cpu")[""]
    assert example.shape == seen[""].shape == (3, 1, 32, 40)


def test_the_defaults_are_150_frames_of_80_bins():
    assert CompressedMelStream("sound", CompressedMelInputs()).example(1, "meta")[""].shape == (1, 1, 150, 80)
