"""Media files that several modules of tests read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from tests.media_files import noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def stereo_wav(folder: Path) -> Path:
    path = folder / "stereo.wav"
    samples = np.round(noise(3.0, 44100, channels=2) * 2**15).astype(np.int16)
    scipy.io.wavfile.write(path, 44100, samples.T)
    return path
