"""Narrated recipes: videos in which something is done step by step, and a voice says what.

A recipe has its own few tools (timbres) and things (looks). A step of it uses a tool, a thing, or a tool with a
thing; its actor bounces for `world.SECONDS`, and at about that time the voice says the step's sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.sample.narration import FILLERS, WORD_SECONDS, Words, sentence
from datamodules.sample.timeline import Timeline, Turn
from datamodules.sample.world import (
    COMBINATIONS,
    FPS,
    FRAMES,
    LOOKS,
    NEUTRAL,
    ROOMS,
    TIMBRES,
    combination,
    generator,
    scene,
)

EVENT_LOUDNESS = 0.5
PAUSE_SECONDS = 0.04  # between words
TAIL_SECONDS = 1  # after the last step
EARLIEST, LATEST = -0.3, 0.5  # seconds from a step's start to its narration's
FEWEST_FILLERS, MOST_FILLERS = 1, 3


@dataclass(frozen=True)
class Recipe:
    name: str
    tools: tuple[str, ...]
    things: tuple[str, ...]

    def steps(self) -> tuple[int, ...]:
        """All steps there are, as indices into `world.COMBINATIONS`."""
        timbres = (NEUTRAL, *map(TIMBRES.index, self.tools))
        looks = (NEUTRAL, *map(LOOKS.index, self.things))
        pairs = [(timbre, look) for timbre in timbres for look in looks if (timbre, look) != (NEUTRAL, NEUTRAL)]
        return tuple(combination(*pair) for pair in pairs)

    def plan(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Six of its steps in an order, no two with the same tool or with the same thing."""
        timbres = [int(i) for i in rng.permutation([NEUTRAL, *map(TIMBRES.index, self.tools)])]
        looks = [int(i) for i in rng.permutation([NEUTRAL, *map(LOOKS.index, self.things)])]
        if timbres.index(NEUTRAL) == looks.index(NEUTRAL):  # there is no such step
            looks.append(looks.pop(0))
        return tuple(combination(*pair) for pair in zip(timbres, looks, strict=True))


_TOOLS = {
    "parade": ("drum", "horn", "whistle", "rattle", "bell"),
    "storm": ("whoosh", "hiss", "rattle", "drum", "falling chirp"),
    "night garden": ("cricket", "whoosh", "string", "chime", "warble"),
    "harbour": ("horn", "bell", "hiss", "whistle", "warble"),
    "workshop": ("buzzer", "beep", "rattle", "hiss", "rising chirp"),
    "concert": ("string", "drum", "chime", "horn", "bell"),
    "arcade": ("beep", "buzzer", "rising chirp", "falling chirp", "warble"),
    "playground": ("whistle", "cricket", "chime", "rising chirp", "string"),
}


def _recipes() -> tuple[Recipe, ...]:
    """Each with five of the fifteen looks that are not neutral, spread so that all are used."""
    own = LOOKS[1:]
    return tuple(
        Recipe(name, tools, tuple(own[(2 * number + 3 * i) % len(own)] for i in range(5)))
        for number, (name, tools) in enumerate(_TOOLS.items())
    )


RECIPES = _recipes()


@dataclass(frozen=True)
class Step:
    start: int
    """Frame; it takes `world.FRAMES`."""
    words: Words

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Utterance:
    """What the voice says without a break."""

    start: float
    words: Words

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(self.start + i * (WORD_SECONDS + PAUSE_SECONDS) for i in range(len(self.words)))

    @property
    def end(self) -> float:
        return self.times[-1] + WORD_SECONDS

    @property
    def text(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Video:
    steps: tuple[Step, ...]
    utterances: tuple[Utterance, ...]
    timeline: Timeline


def film(key: tuple[str | int, ...], recipe: Recipe, starts: Sequence[int], silent: Sequence[int] = ()) -> Video:
    """A video of some steps of the recipe.

    Args:
        key: (seed, dataset, split, index).
        recipe: whose steps; no step comes twice.
        starts: the steps' first frames, at least `FRAMES` apart.
        silent: the steps, counted from 0, of which the voice says nothing.
    """
    rng = generator(*key, "film")
    kinds = [int(kind) for kind in rng.choice(recipe.steps(), size=len(starts), replace=False)]
    return _film(rng, key, kinds, starts, silent)


def film_steps(key: tuple[str | int, ...], kinds: Sequence[int], starts: Sequence[int]) -> Video:
    """A video of these steps, indices into `world.COMBINATIONS`, in this order; for the rest as `film`."""
    return _film(generator(*key, "film"), key, kinds, starts, silent=())


def _film(
    rng: np.random.Generator,
    key: tuple[str | int, ...],
    kinds: Sequence[int],
    starts: Sequence[int],
    silent: Sequence[int],
) -> Video:
    turns = tuple(
        Turn(start, scene((*key, i), (kind,)).actors[0])
        for i, (start, kind) in enumerate(zip(starts, kinds, strict=True))
    )
    steps = tuple(Step(start, sentence(COMBINATIONS[kind])) for start, kind in zip(starts, kinds, strict=True))
    utterances = _narrate(rng, [step for i, step in enumerate(steps) if i not in silent])
    words = tuple(pair for said in utterances for pair in zip(said.times, said.words, strict=True))
    seconds = (starts[-1] + FRAMES) / FPS + TAIL_SECONDS
    room = int(rng.integers(ROOMS))
    return Video(steps, utterances, Timeline(key, room, seconds, turns, loudness=EVENT_LOUDNESS, words=words))


def irregular_starts(rng: np.random.Generator, count: int) -> list[int]:
    """The first frames of steps after pauses of half a second to ten seconds, 3.5 s on average: even
    distances miss many."""
    pauses = np.minimum(4 + rng.exponential(28, size=count).astype(int), 10 * FPS)
    return (pauses.cumsum() + np.arange(count) * FRAMES).tolist()


def _narrate(rng: np.random.Generator, steps: Sequence[Step]) -> tuple[Utterance, ...]:
    """Each step's sentence after a few fillers, at about its time, and never two at once."""
    utterances: list[Utterance] = []
    free = 0.1
    for step in steps:
        fillers = rng.choice(FILLERS, size=rng.integers(FEWEST_FILLERS, MOST_FILLERS + 1), replace=False)
        start = max(free, step.start / FPS + rng.uniform(EARLIEST, LATEST))
        utterances.append(Utterance(start, (*map(str, fillers), *step.words)))
        free = utterances[-1].end + PAUSE_SECONDS
    return tuple(utterances)
