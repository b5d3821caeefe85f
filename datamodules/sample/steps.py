"""The shape of timed steps: videos of ordered tasks, with pauses between the steps, and when each of them is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.sample.ids import youtube_id
from datamodules.sample.narration import sentence
from datamodules.sample.recipes import RECIPES, Video, film_steps, irregular_starts
from datamodules.sample.world import COMBINATIONS, FPS, SECONDS, generator, keys

Plan = tuple[int, ...]
"""The steps of a task in their order, indices into `world.COMBINATIONS`; no step stands in it twice."""


@dataclass(frozen=True)
class Timed:
    """A video of a task."""

    id_: str
    task: int
    """Index into the plans."""
    kinds: Sequence[int]
    """What is done, in order; indices into `world.COMBINATIONS`."""
    video: Video

    @property
    def segments(self) -> list[tuple[int, float, float]]:
        """Kind, start and end in seconds of each step that is done."""
        starts = [step.start / FPS for step in self.video.steps]
        return [(kind, start, start + SECONDS) for kind, start in zip(self.kinds, starts, strict=True)]


def make_plans(seed: int, dataset: str, of: str) -> list[Plan]:
    """A plan for each recipe; `of` is what the dataset calls it."""
    return [recipe.plan(generator(seed, dataset, of, number)) for number, recipe in enumerate(RECIPES)]


def timed_videos(
    seed: int,
    dataset: str,
    counts: Mapping[str, int],
    plans: Sequence[Plan],
    choose: Callable[[np.random.Generator, Plan], Sequence[int]],
) -> Iterator[Timed]:
    """The videos of some splits; their tasks take turns.

    Args:
        seed: of all that is random.
        dataset: its name, which is part of every key.
        counts: split -> number of videos.
        plans: of the tasks.
        choose: what is done in a video, of its task's plan.
    """
    for key in keys(seed, dataset, counts):
        task, rng = key[-1] % len(plans), generator(*key, "steps")
        kinds = choose(rng, plans[task])
        video = film_steps(key, kinds, irregular_starts(rng, len(kinds)))
        yield Timed(youtube_id(*key), task, kinds, video)


def say(kind: int) -> str:
    """A step in words: `ring the bell with the red square`."""
    return " ".join(sentence(COMBINATIONS[kind]))
