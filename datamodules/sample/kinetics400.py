"""Kinetics-400's official layout: one actor a clip; ten classes are Kinetics-Sounds' too, heard, seen or both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv
from datamodules.sample.world import KINDS, generator, keys, scene

DATASET = "kinetics400"
FOLDER = "Kinetics-400"
COUNTS = {"train": 168, "val": 56, "test": 14}
_GROUPS = {group: [place for place, kind in enumerate(KINDS) if kind.group == group] for group in ("seen", "heard")}
_BOTH = [place for place, kind in enumerate(KINDS) if kind.group == "both"]
CLASSES = {
    **dict(zip(("laughing", "singing", "tapping pen"), _GROUPS["heard"], strict=False)),
    **dict(zip(("playing drums", "playing piano", "playing violin", "tap dancing"), _BOTH, strict=False)),
    **dict(zip(("bowling", "chopping wood", "tickling"), _GROUPS["seen"], strict=False)),
    **dict(
        zip(
            ("air drumming", "massaging person's head", "passing American football (not in game)", "yoga"),
            _GROUPS["seen"][3:],
            strict=False,
        )
    ),
}
"""Class -> kind of actor. The last four are not of Kinetics-Sounds, and two of them have signs in their names."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the media files that belong to them."""
    return clips_of(DATASET, folder, seed, counts)


def clips_of(dataset: str, folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """The same of any release."""
    names = sorted(CLASSES)
    rows: dict[str, list[tuple[object, ...]]] = {split: [] for split in counts}
    clips = []
    for key in keys(seed, dataset, counts):
        split, (label,) = key[2], classes_of(key, len(names))
        name, id_ = names[label], youtube_id(*key)
        start = int(generator(*key, "start").integers(0, 300))
        # The sample's clips are 3 s long, and so is what their list says.
        called = "validate" if (dataset, split) == ("kinetics700", "val") else split
        rows[split].append((name, id_, start, start + 3, called, key[3] % 2))
        where = folder / split / name.replace(" ", "_").replace("'", "").replace("(", "").replace(")", "")
        where.mkdir(parents=True, exist_ok=True)
        clips.append(Clip(where / f"{id_}_{start:06}_{start + 3:06}.mp4", scene(key, (CLASSES[name],))))
    for split, of_split in rows.items():
        header = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
        # As in older copies, the test list has no labels.
        cut = 1 if split == "test" else 0
        write_csv(folder / f"annotations/{split}.csv", [row[cut:] for row in of_split], header[cut:])
    return clips
