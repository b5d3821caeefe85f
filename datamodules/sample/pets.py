"""Oxford-IIIT Pet's official layout: breeds are numbered whatever the case, cats' begin with a capital."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.pictured import FEW, pictured
from datamodules.sample.world import keys

DATASET = "pets"
FOLDER = "oxford-iiit-pet"
COUNTS = {"trainval": 200, "test": 100}
SPECIES = ("cat", "dog")
HEAD = ("#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids", "#SPECIES: 1:Cat 2:Dog")


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the lists into `folder`; returns the pictures that belong to them."""
    (folder / "images").mkdir()
    clips: list[Clip] = []
    lists: dict[str, list[str]] = {split: [] for split in COUNTS}
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        label, happening = pictured(key)
        species = label % len(SPECIES)
        breed = FEW[label].capitalize() if SPECIES[species] == "cat" else FEW[label]
        number = len(COUNTS) * (index // len(FEW)) + list(COUNTS).index(split) + 1
        name = f"{breed}_{number}"
        lists[split].append(f"{name} {label + 1} {species + 1} {label // len(SPECIES) + 1}")
        clips.append(Clip(folder / f"images/{name}.jpg", happening))
    for split, lines in lists.items():
        lines.sort(key=str.lower)
        write_lines(folder / f"annotations/{split}.txt", lines)
    every = [line for lines in lists.values() for line in lines]
    every.sort(key=str.lower)
    write_lines(folder / "annotations/list.txt", [*HEAD, *every])
    return clips
