"""CIFAR's official layout: records of class and picture, in five files and in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.cifar10 import CIFAR, CIFAR10, SIDE
from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.pictured import FEW, pictured
from datamodules.sample.world import Scene, keys

DATASET = "cifar10"
FOLDER = "CIFAR-10"
COUNTS = {"train": 200, "test": 100}


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the files with the classes, and black pictures; returns the pictures that belong into them."""
    inside = folder / "cifar-10-batches-bin"
    write_lines(inside / CIFAR10.names_file, [*FEW, ""])
    shown = [(key[2], *pictured(key)) for key in keys(seed, DATASET, counts)]
    return write_records(inside, CIFAR10, [(split, (label,), scene) for split, label, scene in shown])


def write_records(
    folder: Path, dataset: type[CIFAR], shown: Sequence[tuple[str, tuple[int, ...], Scene]]
) -> list[Clip]:
    """Writes the files of CIFAR-10 or CIFAR-100, and returns the pictures that belong into them.

    Args:
        folder: of the files.
        dataset: which of the two.
        shown: split, the numbers before the picture, and what is seen in it.
    """
    records: dict[str, list[bytes]] = {name: [] for name in (*dataset.train_files, dataset.test_file)}
    clips = []
    for place, (split, numbers, scene) in enumerate(shown):
        files = (dataset.test_file,) if split == "test" else dataset.train_files
        name = files[place % len(files)]
        begin = sum(map(len, records[name])) + len(numbers)
        records[name].append(bytes(numbers) + bytes(3 * SIDE * SIDE))
        clips.append(Clip(folder / name, scene, begin=begin))
    for name, content in records.items():
        (folder / name).write_bytes(b"".join(content))
    return clips
