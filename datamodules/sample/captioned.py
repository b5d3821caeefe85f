"""The shape of captioned videos: a recipe's steps, one after the other, and what is said or written of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip, Flaw
from datamodules.sample.recipes import RECIPES, Video, film
from datamodules.sample.world import generator, keys


@dataclass(frozen=True)
class Captioned:
    """A video of a recipe."""

    split: str
    index: int
    """In its split."""
    id_: str
    recipe: int
    """Index into `RECIPES`."""
    video: Video
    rng: np.random.Generator
    """For what else the official files say of it."""


def captioned_videos(
    seed: int,
    dataset: str,
    counts: Mapping[str, int],
    starts: Callable[[np.random.Generator], Sequence[int]],
    silent: Callable[[int], Sequence[int]] = lambda index: (),
) -> Iterator[Captioned]:
    """The videos of some splits; their recipes take turns.

    Args:
        seed: of all that is random.
        dataset: its name, which is part of every key.
        counts: split -> number of videos.
        starts: the first frames of a video's steps, at least `world.FRAMES` apart.
        silent: of the video of an index, the steps of which the voice says nothing.
    """
    for key in keys(seed, dataset, counts):
        *_, split, index = key
        recipe, rng = index % len(RECIPES), generator(*key, "steps")
        video = film(key, RECIPES[recipe], starts(rng), silent(index))
        yield Captioned(split, index, youtube_id(*key), recipe, video, rng)


def video_clip(folder: Path, path: str, video: Video, flaw: Flaw = "") -> Clip:
    """The media file of a video, and its precomputed features in the dataset's `features`.

    Args:
        folder: the dataset's.
        path: of the file, below it.
        video: what it shows.
        flaw: what is wrong with the file.
    """
    for needed in ((folder / path).parent, folder / "features"):
        needed.mkdir(parents=True, exist_ok=True)
    return Clip(folder / path, video.timeline, flaw, folder / "features")
