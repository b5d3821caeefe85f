"""CIFAR-100's official layout: two numbers before each picture, of its superclass (here its colour) and its class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.cifar100 import CIFAR100
from datamodules.sample.cifar10 import write_records
from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.pictured import CLASSES, pictured
from datamodules.sample.world import keys

DATASET = "cifar100"
FOLDER = "CIFAR-100"
COUNTS = {"train": 225, "test": 105}


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the files with the classes, and black pictures; returns the pictures that belong into them."""
    inside = folder / "cifar-100-binary"
    colours = sorted({name.partition("_")[0] for name in CLASSES})
    write_lines(inside / CIFAR100.names_file, [*CLASSES, ""])
    write_lines(inside / "coarse_label_names.txt", [*colours, ""])
    shown = []
    for key in keys(seed, DATASET, counts):
        label, scene = pictured(key, CLASSES)
        shown.append((key[2], (colours.index(CLASSES[label].partition("_")[0]), label), scene))
    return write_records(inside, CIFAR100, shown)
