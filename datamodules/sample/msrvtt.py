"""MSR-VTT's official layout: short clips of one step each, with several captions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sample.captioned import video_clip
from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip, Flaw
from datamodules.sample.narration import FILLERS, Words, sentence
from datamodules.sample.official import write_csv, write_json, write_vocabulary
from datamodules.sample.recipes import RECIPES, film_steps
from datamodules.sample.world import COMBINATIONS, generator, keys

DATASET = "msrvtt"
FOLDER = "MSRVTT"
COUNTS = {"train": 16, "test": 44}
FIRST = {"train": 0, "test": 7010}
"""Split -> number of its first video, as in the official full split."""
NOT_1K_EVERY = 11
"""Every 11th test video is not in the test set 1k-A, and is trained on in the split of 9k."""
FLAWS: dict[tuple[str, int], Flaw] = {("test", 2): "no audio", ("test", 6): "no audio"}
CAPTIONS = 5
"""Of each video; 20 in the official files."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the clips that belong to them."""
    videos: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    lists: dict[str, list[Any]] = {"7k": [], "9k": [], "1k": []}
    clips = []
    kinds = {split: _kinds(seed, split) for split in counts}
    for key in keys(seed, DATASET, counts):
        *_, split, index = key
        rng, number, kind = generator(*key, "clip"), FIRST[split] + index, kinds[split][index % len(kinds[split])]
        id_ = f"video{number}"
        video = film_steps(key, [kind], [int(rng.integers(3, 8))])
        start = round(float(rng.uniform(0, 200)), 2)
        videos.append(
            {
                "category": COMBINATIONS[kind].timbre,
                "url": f"https://www.youtube.com/watch?v={youtube_id(*key)}",
                "video_id": id_,
                "start time": start,
                "end time": round(start + video.timeline.seconds, 2),
                "split": "train",  # as the official file says of all
                "id": number,
            }
        )
        said = _captions(rng, sentence(COMBINATIONS[kind]))
        sentences += [{"caption": caption, "video_id": id_} for caption in said]
        if split == "test" and index % NOT_1K_EVERY != NOT_1K_EVERY - 1:
            lists["1k"].append((f"ret{len(lists['1k'])}", f"msr{number}", id_, said[int(rng.integers(CAPTIONS))]))
        else:
            lists["9k"].append((id_,))
            lists["7k"] += [(id_,)] * (split == "train")
        clips.append(video_clip(folder, f"videos/all/{id_}.mp4", video, FLAWS.get((split, index), "")))
    # The official sentences are in no order of videos, and numbered in that order.
    order = generator(seed, DATASET, "sentences").permutation(len(sentences))
    shuffled = [{**sentences[at], "sen_id": place} for place, at in enumerate(order)]
    write_json(folder / "MSRVTT_data.json", {"info": {}, "videos": videos, "sentences": shuffled})
    for name in ("7k", "9k"):
        write_csv(folder / f"MSRVTT_train.{name}.csv", lists[name], ("video_id",))
    write_csv(folder / "MSRVTT_JSFUSION_test.csv", lists["1k"], ("key", "vid_key", "video_id", "sentence"))
    write_vocabulary(folder)
    return clips


def _kinds(seed: int, split: str) -> list[int]:
    """The steps of all recipes, each once: clips of a split that show the same are that many apart."""
    steps = sorted({step for recipe in RECIPES for step in recipe.steps()})
    return [int(step) for step in generator(seed, DATASET, split, "kinds").permutation(steps)]


def _captions(rng: np.random.Generator, words: Words) -> list[str]:
    """The sentence after one to three fillers, or none; no two are the same."""
    captions = {" ".join(words): None}
    while len(captions) < CAPTIONS:
        fillers = rng.choice(FILLERS, size=rng.integers(1, 4), replace=False)
        captions[" ".join([*map(str, fillers), *words])] = None
    return list(captions)
