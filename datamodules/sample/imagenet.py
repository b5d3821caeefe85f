"""ImageNet's official layout: training pictures in a folder a synset, those of `val` in one, and the devkit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.pictured import FEW, pictured
from datamodules.sample.world import generator, keys

DATASET = "imagenet"
FOLDER = "ImageNet"
COUNTS = {"train": 200, "val": 100}
DEVKIT = "ILSVRC2012_devkit_t12/data"
WNIDS = tuple(f"n{90000000 + 37 * number}" for number in range(len(FEW)))
NUMBERS = tuple((7 * place + 3) % len(FEW) + 1 for place in range(len(FEW)))
"""The devkit's, which are sorted in another way."""
ABOVE = "n90009999"
"""A synset that has the others below it."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the devkit and the training folders; returns the pictures."""
    clips, truth = [], []
    for wnid in WNIDS:
        (folder / "train" / wnid).mkdir(parents=True)
    (folder / "val").mkdir()
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        label, happening = pictured(key)
        if split == "val":
            truth.append(NUMBERS[label])
            path = folder / f"val/ILSVRC2012_val_{index + 1:08}.JPEG"
        else:
            number = 97 * index + int(generator(*key, "name").integers(97))
            path = folder / f"train/{WNIDS[label]}/{WNIDS[label]}_{number}.JPEG"
            path.touch()
        clips.append(Clip(path, happening))
    write_lines(folder / DEVKIT / "ILSVRC2012_validation_ground_truth.txt", truth)
    _write_synsets(folder / DEVKIT / "meta.mat")
    return clips


def _write_synsets(path: Path) -> None:
    """In Matlab's format, whose header says when it was written."""
    from scipy.io import savemat

    names = [f"{name.replace('_', ' ')}, {name.split('_')[1]}" for name in FEW]
    rows = sorted((*zip(NUMBERS, WNIDS, names, strict=True), (len(FEW) + 1, ABOVE, "thing")))
    columns = ("ILSVRC2012_ID", "WNID", "words", "num_children")
    synsets = np.empty((len(rows), 1), dtype=[(name, object) for name in columns])
    for place, (number, wnid, words) in enumerate(rows):
        synsets[place, 0] = (number, wnid, words, len(FEW) if wnid == ABOVE else 0)
    savemat(path, {"synsets": synsets})
    content = path.read_bytes()
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + content[116:])
