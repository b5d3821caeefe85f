"""UCF101's official layout: one actor a clip, a look and in half of the classes a timbre; three splits by groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.sample.media import Clip
from datamodules.sample.official import write_text
from datamodules.sample.world import HEARD_TIMBRES, LOOKS, SEEN_LOOKS, TIMBRES, combination, generator, keys, scene

DATASET = "ucf101"
FOLDER = "UCF101"
COUNTS = {"videos": 120}
REVISION = 1
"""1: with precomputed features."""
GROUPS = 4
"""Of a class in a block of clips: one is tested in each split, and one in none."""
LOOK_OF = {f"{look.title().replace(' ', '')}Bouncing": place for place, look in enumerate(SEEN_LOOKS)}
CLASSES = tuple(sorted(LOOK_OF))
SPELT = {"WhiteBarBouncing": "WhitebarBouncing"}
"""As with HandstandPushups, the files of one class spell it in another way."""
SILENT_FROM = len(CLASSES) // 2
"""The classes from this one on have no sound."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official text files into `folder`; returns the videos that belong to them."""
    lists, videos = folder / "ucfTrainTestlist", folder / "UCF-101"
    rows, clips, features = [], [], folder / "features"
    features.mkdir()
    for key in keys(seed, DATASET, counts):
        block, place = divmod(key[3], GROUPS * len(CLASSES))
        label, group = divmod(place, GROUPS)
        name = CLASSES[label]
        number = int(generator(*key, "number").integers(1, 8))
        path = f"{name}/v_{SPELT.get(name, name)}_g{GROUPS * block + group + 1:02}_c{number:02}.avi"
        rows.append((path, label + 1, group))
        (videos / name).mkdir(parents=True, exist_ok=True)
        actor = combination(TIMBRES.index(HEARD_TIMBRES[LOOK_OF[name]]), LOOKS.index(SEEN_LOOKS[LOOK_OF[name]]))
        clips.append(Clip(videos / path, scene(key, (actor,)), "no audio" if label >= SILENT_FROM else "", features))
    _write(lists / "classInd.txt", [f"{number} {name}" for number, name in enumerate(CLASSES, 1)])
    for split in range(3):
        _write(
            lists / f"trainlist0{split + 1}.txt", [f"{path} {n}" for path, n, group in sorted(rows) if group != split]
        )
        _write(lists / f"testlist0{split + 1}.txt", [path for path, _, group in sorted(rows) if group == split])
    return clips


def _write(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\r\n" for line in lines))
