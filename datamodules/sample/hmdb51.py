"""HMDB51's official layout: one silent actor a clip, known by its look; lists of each class for three splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.media import Clip
from datamodules.sample.official import write_text
from datamodules.sample.world import LOOKS, NEUTRAL, SEEN_LOOKS, combination, generator, keys, scene

DATASET = "hmdb51"
FOLDER = "HMDB51"
COUNTS = {"videos": 120}
REVISION = 1
"""1: with precomputed features."""
PLACES = 4
"""Of a class's clips in a block: one is tested in each split, and the last in none."""
LOOK_OF = {f"bounce_{look.replace(' ', '_')}": look for look in SEEN_LOOKS}
CLASSES = tuple(sorted(LOOK_OF))
FILMS = ("Some_Film_(2003)", "#12_A_Tutorial", "Left!Right!", "Trailer[HQ];part", "Salt&Pepper", "PlainFilm")
"""How official names begin; `#` begins no comment there."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official text files into `folder`; returns the videos that belong to them."""
    lines: dict[tuple[str, int], list[str]] = {(name, split): [] for name in CLASSES for split in (1, 2, 3)}
    clips, features = [], folder / "features"
    features.mkdir()
    for key in keys(seed, DATASET, counts):
        index = key[3]
        block, rest = divmod(index, PLACES * len(CLASSES))
        label, place = divmod(rest, PLACES)
        name = CLASSES[label]
        film = FILMS[int(generator(*key, "film").integers(len(FILMS)))]
        file = f"{film}_{name}_f_nm_np1_fr_med_{index}.avi"
        for split in (1, 2, 3):
            unused = block % 2 == 1 and place == split
            lines[name, split].append(f"{file} {2 if place == split - 1 else 0 if unused else 1} \n")
        (folder / name).mkdir(exist_ok=True)
        actor = combination(NEUTRAL, LOOKS.index(LOOK_OF[name]))
        clips.append(Clip(folder / name / file, scene(key, (actor,)), "no audio", features))
    for (name, split), of_list in lines.items():
        write_text(folder / f"testTrainMulti_7030_splits/{name}_test_split{split}.txt", "".join(sorted(of_list)))
    return clips
