"""Multi-Moments in Time's official layout: one or two actors a clip, whose classes are numbers in the lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.moments import CATEGORIES, FOLDERS, LISTS
from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.moments import CLASSES
from datamodules.sample.official import write_csv
from datamodules.sample.world import generator, keys, scene

DATASET = "multi_moments"
FOLDER = "Multi_Moments_in_Time"
COUNTS = {"train": 72, "val": 36}
SHARE_OF_PAIRS = 0.5


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official lists into `folder`; returns the media files that belong to them."""
    names = sorted(CLASSES)
    rows: dict[str, list[tuple[object, ...]]] = {split: [] for split in LISTS}
    clips = []
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        labels = classes_of(key, len(names), SHARE_OF_PAIRS)
        digits = "-".join(map(str, generator(*key, "name").integers(10, size=8)))
        file = f"{digits}-{index:011}_{index % 9}.mp4"
        rows[split].append((file, *labels))
        (folder / FOLDERS[split]).mkdir(exist_ok=True)
        happening = scene(key, tuple(CLASSES[names[label]] for label in labels))
        clips.append(Clip(folder / FOLDERS[split] / file, happening))
    for split, file in LISTS.items():
        write_csv(folder / file, rows[split])
    write_csv(folder / CATEGORIES, [(name, number) for number, name in enumerate(names)])
    return clips
