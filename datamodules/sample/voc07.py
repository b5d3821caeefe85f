"""VOC 2007's official layout: of each class a list of all pictures; some things are seen with difficulty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.pictured import FEW, showing
from datamodules.sample.world import generator, keys

DATASET = "voc07"
FOLDER = "VOCdevkit"
COUNTS = {"train": 120, "val": 80, "test": 100}
PAIRS = 0.5
"""Of the pictures, those of two things."""
DIFFICULT = 0.25
"""Of these pairs, those of which one is said to be seen with difficulty."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the lists into `folder`; returns the pictures that belong to them."""
    inside = folder / "VOC2007"
    (inside / "JPEGImages").mkdir(parents=True)
    clips: list[Clip] = []
    said: dict[str, dict[str, dict[int, str]]] = {split: {} for split in COUNTS}
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        labels = classes_of(key, len(FEW), PAIRS)
        judged = dict.fromkeys(labels, " 1")
        if len(labels) > 1 and generator(*key, "difficult").uniform() < DIFFICULT:
            judged[labels[1]] = " 0"
        name = f"{len(COUNTS) * index + list(COUNTS).index(split) + 1:06}"
        said[split][name] = judged
        clips.append(Clip(inside / f"JPEGImages/{name}.jpg", showing(key, *(FEW[label] for label in labels))))
    said["trainval"] = dict(sorted((said["train"] | said["val"]).items()))
    for split, pictures in said.items():
        write_lines(inside / f"ImageSets/Main/{split}.txt", pictures)
        for label, name in enumerate(FEW):
            lines = [f"{picture} {judged.get(label, '-1')}" for picture, judged in pictures.items()]
            write_lines(inside / f"ImageSets/Main/{name}_{split}.txt", lines)
    return clips
