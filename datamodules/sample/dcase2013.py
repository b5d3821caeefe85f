"""DCASE 2013's official layout: of each scene sounds of one timbre in any room; two folders with equal names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.dcase2013 import SCENES, SETS
from datamodules.sample.labelled import classes_of, recording
from datamodules.sample.media import Clip
from datamodules.sample.world import HEARD_TIMBRES, NEUTRAL, TIMBRES, combination, generator, keys, scene

DATASET = "dcase2013"
FOLDER = "DCASE2013"
COUNTS = {"train": 40, "test": 40}
SECONDS = 2.0


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Makes the folders; returns the recordings that belong in them, which are listed nowhere."""
    clips = []
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        (label,) = classes_of(key, len(SCENES))
        where = folder / SETS[split]
        where.mkdir(exist_ok=True)
        happening = scene(key, (combination(TIMBRES.index(HEARD_TIMBRES[label]), NEUTRAL),))
        rng = generator(*key, "recording")
        # As in the official names, the numbers of a scene are not consecutive.
        path = where / f"{SCENES[label]}{index % 100:02}.wav"
        path.touch()
        clips.append(Clip(path, recording(key, rng, happening.actors, happening.room, SECONDS)))
    return clips
