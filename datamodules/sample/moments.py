"""Moments in Time's official layout: one actor a clip, heard, seen or both; one clip in ten has no sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.moments import CATEGORIES, FOLDERS, LISTS
from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv
from datamodules.sample.world import KINDS, generator, keys, scene

DATASET = "moments"
FOLDER = "Moments_in_Time"
COUNTS = {"train": 120, "val": 48}
WITHOUT_SOUND = 10
"""One clip in so many."""
_PLACES = {group: [place for place, kind in enumerate(KINDS) if kind.group == group] for group in ("seen", "both")}
CLASSES = {
    **dict(zip(("adult+female+singing", "barking", "clapping", "playing+music"), _PLACES["both"], strict=False)),
    **dict(
        zip(
            ("blocking", "child+speaking", "dancing", "erupting", "opening", "sleeping", "swimming", "yawning"),
            _PLACES["seen"],
            strict=False,
        )
    ),
}
"""Class -> kind of actor."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official lists into `folder`; returns the media files that belong to them."""
    names = sorted(CLASSES)
    rows: dict[str, list[tuple[object, ...]]] = {split: [] for split in LISTS}
    clips = []
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        name = names[classes_of(key, len(names))[0]]
        draws = generator(*key, "about")
        place = f"{name}/{('yt', 'getty', 'flickr')[index % 3]}-{int(draws.integers(10**9)):09}_{index}.mp4"
        rows[split].append((place, name, int(draws.integers(3, 6)), int(draws.integers(2))))
        media = folder / FOLDERS[split] / place
        media.parent.mkdir(parents=True, exist_ok=True)
        without = index % WITHOUT_SOUND == WITHOUT_SOUND - 1
        clips.append(Clip(media, scene(key, (CLASSES[name],)), "no audio" if without else ""))
    for split, file in LISTS.items():
        write_csv(folder / file, rows[split])
    # As in some releases, the lines are not in the order of the index.
    write_csv(folder / CATEGORIES, [(name, number) for number, name in reversed(list(enumerate(names)))])
    return clips
