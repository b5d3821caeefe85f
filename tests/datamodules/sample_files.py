"""Reads the files that the sample data's writers leave, by means that are not theirs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules import sample
from datamodules.media.decode import Media
from datamodules.sample import sound

RATE = sound.SAMPLE_RATE


def official_files(root: Path, datasets: list[str]) -> Path:
    """The official files of the default size, without the media; returns the folder."""
    for name in datasets:
        layout = sample.layouts()[name]
        (root / layout.FOLDER).mkdir()
        layout.lay_out(root / layout.FOLDER, 0, layout.COUNTS)
    return root


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_sound(path: Path) -> NDArray[np.float32]:
    with Media(path) as opened:
        return opened.audio(0, 1000, RATE)


def spectrum_of(waveform: NDArray[np.float32]) -> NDArray[np.float64]:
    """[64] the loudest that each band gets, in logarithms."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, 512)[::256] * np.hanning(512)
    bands = np.abs(np.fft.rfft(windows))[:, :256].reshape(len(windows), 64, 4).mean(axis=2)
    return np.log(bands.max(axis=0) + 0.01)
