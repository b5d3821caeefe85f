"""YouCook2's official layout: narrated videos with timed sentences, and the retrieval set of MIL-NCE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sample.captioned import Captioned, captioned_videos, video_clip
from datamodules.sample.media import Clip, Flaw
from datamodules.sample.official import write_csv, write_json, write_lines, write_vocabulary
from datamodules.sample.recipes import RECIPES
from datamodules.sample.world import FPS, SECONDS

DATASET = "youcook2"
FOLDER = "YouCook2"
COUNTS = {"training": 40, "validation": 60}
TESTING = 4
"""Videos of the test split, which is listed without sentences and has no media here."""
FIRST_TYPE = 101
FLAWS: dict[tuple[str, int], Flaw] = {("validation", 5): "missing"}
SUFFIXES = {("validation", 2): ".mkv"}
"""Split and index of a video -> its suffix, if it is not `.mp4`."""
NOT_RETRIEVED_EVERY = 15
"""Every 15th validation video is not in the retrieval set, as the official one leaves out what HowTo100M has."""


Segment = tuple[int, int]
"""Whole seconds: a segment ends with its step, or a second later."""
Entries = list[tuple[Captioned, tuple[Segment, ...]]]
"""The videos of a split, with the segments of each."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the videos that belong to them."""
    of_all = {split: _entries(seed, split, count) for split, count in counts.items()}
    testing = _entries(seed, "testing", TESTING)
    known = {video.id_: _annotation(video, segments, True) for split in of_all.values() for video, segments in split}
    write_json(folder / "annotations/youcookii_annotations_trainval.json", {"database": known})
    unknown = {video.id_: _annotation(video, segments, False) for video, segments in testing}
    write_json(folder / "annotations/youcookii_annotations_test_segments_only.json", {"database": unknown})
    for split, entries in {**of_all, "testing": testing}.items():
        short = {"training": "train", "validation": "val", "testing": "test"}[split]
        write_lines(folder / f"splits/{short}_list.txt", sorted(f"{_type(v)}/{v.id_}" for v, _ in entries))
    types = [f"{FIRST_TYPE + number},{recipe.name}" for number, recipe in enumerate(RECIPES)]
    write_lines(folder / "label_foodtype.csv", types)
    rows = [
        (end, start, _type(video), step.text, video.id_)
        for video, segments in of_all.get("validation", ())
        if video.index % NOT_RETRIEVED_EVERY != NOT_RETRIEVED_EVERY - 1
        for (start, end), step in zip(segments, video.video.steps, strict=True)
    ]
    write_csv(folder / "csv/validation_youcook.csv", rows, ("end", "start", "task", "text", "video_id"))
    write_vocabulary(folder)
    return [_clip(folder, video) for entries in of_all.values() for video, _ in entries]


def _entries(seed: int, split: str, count: int) -> Entries:
    found: Entries = []
    for each in captioned_videos(seed, DATASET, {split: count}, _starts):
        starts = [step.start // FPS for step in each.video.steps]
        found.append((each, tuple((start, start + int(SECONDS) + int(each.rng.integers(2))) for start in starts)))
    return found


def _starts(rng: np.random.Generator) -> list[int]:
    """4 to 6 steps that begin at whole seconds."""
    gaps = rng.integers(4, 6, size=rng.integers(4, 7))
    return [FPS * int(start) for start in accumulate(gaps[1:], initial=rng.integers(1, 3))]


def _type(video: Captioned) -> int:
    return FIRST_TYPE + video.recipe


def _annotation(each: Captioned, segments: Sequence[Segment], has_sentences: bool) -> dict[str, Any]:
    annotations = [
        {"segment": segment, "id": i, **({"sentence": step.text} if has_sentences else {})}
        for i, (segment, step) in enumerate(zip(segments, each.video.steps, strict=True))
    ]
    return {
        "duration": each.video.timeline.seconds,
        "subset": each.split,
        "recipe_type": str(_type(each)),
        "annotations": annotations,
        "video_url": f"https://www.youtube.com/watch?v={each.id_}",
    }


def _clip(folder: Path, each: Captioned) -> Clip:
    suffix = SUFFIXES.get((each.split, each.index), ".mp4")
    flaw = FLAWS.get((each.split, each.index), "")
    return video_clip(folder, f"raw_videos/{each.split}/{_type(each)}/{each.id_}{suffix}", each.video, flaw)
