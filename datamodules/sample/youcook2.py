"""YouCook2's official layout: narrated videos with timed sentences, and the retrieval set of MIL-NCE."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip, Flaw
from datamodules.sample.narration import VOCABULARY
from datamodules.sample.recipes import RECIPES, Video, film
from datamodules.sample.world import FPS, SECONDS, generator

DATASET = "youcook2"
FOLDER = "YouCook2"
COUNTS = {"training": 40, "validation": 60}
TESTING = 4
"""Videos of the test split, which is listed without sentences and has no media here."""
FIRST_TYPE = 101
FLAWS: dict[str, dict[int, Flaw]] = {"validation": {5: "missing"}}
SUFFIXES = {"validation": {2: ".mkv"}}
"""Split -> index of a video -> its suffix, if it is not `.mp4`."""
NOT_RETRIEVED_EVERY = 15
"""Every 15th validation video is not in the retrieval set, as the official one leaves out what HowTo100M has."""


@dataclass(frozen=True)
class _Entry:
    """One video as the annotations tell of it."""

    split: str
    index: int
    id_: str
    type_: int
    video: Video
    segments: tuple[tuple[int, int], ...]


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the videos that belong to them."""
    for made in ("annotations", "splits", "csv", "features"):
        (folder / made).mkdir()
    entries = {split: [_entry(seed, split, i) for i in range(count)] for split, count in counts.items()}
    testing = [_entry(seed, "testing", i) for i in range(TESTING)]

    known = {entry.id_: _annotation(entry, sentences=True) for split in entries.values() for entry in split}
    _write_json(folder / "annotations/youcookii_annotations_trainval.json", known)
    unknown = {entry.id_: _annotation(entry) for entry in testing}
    _write_json(folder / "annotations/youcookii_annotations_test_segments_only.json", unknown)
    for split, listed in {**entries, "testing": testing}.items():
        short = {"training": "train", "validation": "val", "testing": "test"}[split]
        lines = sorted(f"{entry.type_}/{entry.id_}\n" for entry in listed)
        (folder / f"splits/{short}_list.txt").write_text("".join(lines))
    types = [f"{FIRST_TYPE + number},{recipe.name}\n" for number, recipe in enumerate(RECIPES)]
    (folder / "label_foodtype.csv").write_text("".join(types))
    _write_retrieval(folder / "csv/validation_youcook.csv", entries.get("validation", ()))
    (folder / "vocabulary.txt").write_text("\n".join(VOCABULARY) + "\n")
    return [_clip(folder, entry) for split in entries.values() for entry in split]


def _entry(seed: int, split: str, index: int) -> _Entry:
    """4 to 6 steps that begin at whole seconds; a segment ends with its step, or a second later."""
    key = (seed, DATASET, split, index)
    rng, number = generator(*key, "steps"), index % len(RECIPES)
    gaps = rng.integers(4, 6, size=rng.integers(4, 7))
    starts = [int(start) for start in accumulate(gaps[1:], initial=rng.integers(1, 3))]
    video = film(key, RECIPES[number], [start * FPS for start in starts])
    segments = tuple((start, start + int(SECONDS) + int(rng.integers(2))) for start in starts)
    return _Entry(split, index, youtube_id(*key), FIRST_TYPE + number, video, segments)


def _annotation(entry: _Entry, sentences: bool = False) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for i, (segment, step) in enumerate(zip(entry.segments, entry.video.steps, strict=True)):
        annotations.append({"segment": segment, "id": i, **({"sentence": step.text} if sentences else {})})
    return {
        "duration": entry.video.timeline.seconds,
        "subset": entry.split,
        "recipe_type": str(entry.type_),
        "annotations": annotations,
        "video_url": f"https://www.youtube.com/watch?v={entry.id_}",
    }


def _clip(folder: Path, entry: _Entry) -> Clip:
    media = folder / "raw_videos" / entry.split / str(entry.type_)
    media.mkdir(parents=True, exist_ok=True)
    suffix = SUFFIXES.get(entry.split, {}).get(entry.index, ".mp4")
    flaw = FLAWS.get(entry.split, {}).get(entry.index, "")
    return Clip(media / f"{entry.id_}{suffix}", entry.video.timeline, flaw, folder / "features")


def _write_json(path: Path, database: Mapping[str, Any]) -> None:
    path.write_text(json.dumps({"database": database}))


def _write_retrieval(path: Path, entries: Iterable[_Entry]) -> None:
    rows = [
        (end, start, entry.type_, step.text, entry.id_)
        for entry in entries
        if entry.index % NOT_RETRIEVED_EVERY != NOT_RETRIEVED_EVERY - 1
        for (start, end), step in zip(entry.segments, entry.video.steps, strict=True)
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("end", "start", "task", "text", "video_id"))
        writer.writerows(rows)
