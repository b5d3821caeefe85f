"""HowTo100M's official layout: long narrated videos, with captions as speech recognition gives them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip
from datamodules.sample.narration import VOCABULARY
from datamodules.sample.recipes import RECIPES, Recipe, Video, film
from datamodules.sample.world import FRAMES, generator

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
    media, features = folder / "videos", folder / "features"
    media.mkdir()
    features.mkdir()
    rows, captions, clips = [], {}, []
    for split, count in counts.items():
        for index in range(count):
            key = (seed, DATASET, split, index)
            id_, (rank, number) = youtube_id(*key), divmod(index, len(RECIPES))
            video = _video(key, RECIPES[number], QUIET if index % QUIET_EVERY == QUIET_EVERY // 2 else ())
            rows.append((id_, *_CATEGORIES[number], rank + 1, _task(number)))
            captions[id_] = _captions(key, video)
            clips.append(Clip(media / f"{id_}.mp4", video.timeline, features=features))
    with (folder / "HowTo100M_v1.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video_id", "category_1", "category_2", "rank", "task_id"))
        writer.writerows(rows)
    tasks = [f"{_task(number)},Make a {recipe.name.title()}\n" for number, recipe in enumerate(RECIPES)]
    (folder / "task_ids.csv").write_text("".join(tasks))
    (folder / "caption.json").write_text(json.dumps(captions))
    (folder / "vocabulary.txt").write_text("\n".join(VOCABULARY) + "\n")
    return clips


def _task(number: int) -> int:
    return 10_007 + 613 * number


def _video(key: tuple[str | int, ...], recipe: Recipe, quiet: tuple[int, ...]) -> Video:
    """5 to 8 steps with pauses of a quarter of a second or more."""
    rng = generator(*key, "steps")
    pauses = rng.integers(2, 6, size=rng.integers(5, 9))
    starts = list(accumulate((FRAMES + int(pause) for pause in pauses[1:]), initial=4))
    return film(key, recipe, starts, quiet)


def _captions(key: tuple[str | int, ...], video: Video) -> dict[str, list[float] | list[str]]:
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
