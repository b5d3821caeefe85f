"""Kinetics-600's official layout, as Kinetics-400's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.kinetics400 import clips_of
from datamodules.sample.media import Clip

DATASET = "kinetics600"
FOLDER = "Kinetics-600"
COUNTS = {"train": 42, "val": 14, "test": 14}


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the media files that belong to them."""
    return clips_of(DATASET, folder, seed, counts)
