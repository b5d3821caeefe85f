"""NWPU-RESISC45's official layout: a folder a class, and the three lists of names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.pictured import FEW, pictured
from datamodules.sample.world import keys

DATASET = "resisc45"
FOLDER = "NWPU-RESISC45"
COUNTS = {"train": 180, "val": 60, "test": 60}


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the lists into `folder`; returns the pictures that belong to them."""
    clips: list[Clip] = []
    lists: dict[str, list[str]] = {split: [] for split in COUNTS}
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        label, happening = pictured(key)
        name = FEW[label]
        # Each class has each number once.
        number = len(COUNTS) * (index // len(FEW)) + list(COUNTS).index(split) + 1
        path = folder / "NWPU-RESISC45" / name / f"{name}_{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        lists[split].append(path.name)
        clips.append(Clip(path, happening))
    for split, names in lists.items():
        write_lines(folder / f"resisc45-{split}.txt", names)
    return clips
