"""HowTo100M's official layout: long narrated videos, with captions as speech recognition gives them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

import numpy as np

from datamodules.sample.captioned import captioned_videos, video_clip
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv, write_json, write_lines, write_vocabulary
from datamodules.sample.recipes import RECIPES, Video
from datamodules.sample.world import FRAMES, Key, generator

DATASET = "howto100m"
FOLDER = "HowTo100M"
COUNTS = {"train": 100}
QUIET_EVERY, QUIET = 20, (1, 2)
"""In every 20th video the voice is silent during these steps."""
_CATEGORIES = (
    *(("Arts and Entertainment", "Music & Sound"), ("Home & Garden", "Weather Effects")),
    *(("Home & Garden", "Gardening"), ("Cars & Other Vehicles", "Boats & Ships"), ("Work World", "Tools & Machines")),
    *(("Arts and Entertainment", "Music & Sound"), ("Hobbies and Crafts", "Games"), ("Family Life", "Toys & Games")),
)
"""Of each recipe; some have `&` and blanks, none a comma, and the official file quotes nothing."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV and JSON files into `folder`; returns the videos that belong to them."""
    rows, captions, clips = [], {}, []
    for each in captioned_videos(seed, DATASET, counts, _starts, _quiet):
        rows.append((each.id_, *_CATEGORIES[each.recipe], each.index // len(RECIPES) + 1, _task(each.recipe)))
        captions[each.id_] = _captions((seed, DATASET, each.split, each.index), each.video)
        clips.append(video_clip(folder, f"videos/{each.id_}.mp4", each.video))
    header = ("video_id", "category_1", "category_2", "rank", "task_id")
    write_csv(folder / "HowTo100M_v1.csv", rows, header)
    tasks = [f"{_task(number)},Make a {recipe.name.title()}" for number, recipe in enumerate(RECIPES)]
    write_lines(folder / "task_ids.csv", tasks)
    write_json(folder / "caption.json", captions)
    write_vocabulary(folder)
    return clips


def _task(number: int) -> int:
    return 10_007 + 613 * number


def _starts(rng: np.random.Generator) -> list[int]:
    """5 to 8 steps with pauses of a quarter of a second or more."""
    pauses = rng.integers(2, 6, size=rng.integers(5, 9))
    return list(accumulate((FRAMES + int(pause) for pause in pauses[1:]), initial=4))


def _quiet(index: int) -> tuple[int, ...]:
    return QUIET if index % QUIET_EVERY == QUIET_EVERY // 2 else ()


def _captions(key: Key, video: Video) -> dict[str, list[float] | list[str]]:
    """One line an utterance, with times that are a little off and run into the next line."""
    rng = generator(*key, "captions")
    said = video.utterances
    start, end = [], []
    for i, utterance in enumerate(said):
        following = said[i + 1].start if i + 1 < len(said) else utterance.end
        start.append(round(max(0.0, utterance.start - rng.uniform(0, 0.4)), 2))
        end.append(round(min(following, utterance.end + 1.5) + rng.uniform(0.1, 0.7), 2))
    end = [min(time, video.timeline.seconds) for time in end]
    return {"start": start, "end": end, "text": [utterance.text for utterance in said]}
