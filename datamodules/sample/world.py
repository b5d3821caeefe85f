"""The made-up world: what can be heard and seen, and what happens in a clip.

In a clip one or two actors bounce, each in its own rhythm. Whenever an actor hits the ground, its sound starts.
An actor's class is one of 30, known by its sound (timbre), by its look, or only by both together:

* 10 heard-only classes: a timbre of their own, and the neutral look (a grey ball);
* 10 seen-only classes: a look of their own, and the neutral timbre (a dull thud);
* 10 classes that need both: class k has timbre k // 2 and look (k // 2 + k % 2) % 5 of five of each,
  so that the sound alone leaves two candidates, the picture alone leaves two, and both together one.

So a perfect listener names 1/3 + 1/3 * 1/10 + 1/3 * 1/2 = 53 % of the actors, a perfect viewer the same,
and who does both 100 %.

Besides, sound and picture of one clip belong together: they share the rhythm, a bigger actor sounds lower and
louder, and each of the eight rooms has walls of a tint of its own and hums at a pitch of its own. Nothing else in a
scene depends on the class, the room least of all.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

SECONDS = 3.0
FPS = 8
FRAMES = int(SECONDS * FPS)
FIRST_IMPACT, LAST_IMPACT = 2, 20  # frames; after the last one its sound still has 0.5 s to ring
SHORTEST_GAP = 3  # frames between an actor's impacts

NEUTRAL = 0
HEARD_TIMBRES = (
    *("chime", "horn", "whistle", "hiss", "rising chirp"),
    *("falling chirp", "buzzer", "warble", "rattle", "drum"),
)
BOTH_TIMBRES = ("bell", "beep", "string", "whoosh", "cricket")
TIMBRES = ("thud", *HEARD_TIMBRES, *BOTH_TIMBRES)
SEEN_LOOKS = (
    *("red square", "yellow triangle", "green ring", "blue cross", "magenta disc"),
    *("cyan diamond", "white bar", "orange star", "black square", "violet ring"),
)
BOTH_LOOKS = ("red ring", "yellow cross", "green diamond", "blue star", "magenta triangle")
LOOKS = ("grey ball", *SEEN_LOOKS, *BOTH_LOOKS)


ROOMS = 8


@dataclass(frozen=True)
class Kind:
    """A class: which timbre (index into `TIMBRES`) and which look (index into `LOOKS`) its actors have."""

    group: str
    """`heard`, `seen` or `both`: what is needed to know it; `other` if it is none of the classes."""
    timbre: int
    look: int


def _kinds() -> tuple[Kind, ...]:
    heard = [Kind("heard", 1 + i, NEUTRAL) for i in range(10)]
    seen = [Kind("seen", NEUTRAL, 1 + i) for i in range(10)]
    both = [Kind("both", 11 + k // 2, 11 + (k // 2 + k % 2) % 5) for k in range(10)]
    return (*heard, *seen, *both)


KINDS = _kinds()
"""The 30 classes, in the order of their numbers."""


def _combinations() -> tuple[Kind, ...]:
    classes = {(kind.timbre, kind.look) for kind in KINDS}
    every = itertools.product(range(len(TIMBRES)), range(len(LOOKS)))
    return (*KINDS, *(Kind("other", *pair) for pair in every if pair not in classes))


COMBINATIONS = _combinations()
"""Every timbre with every look; the 30 classes come first."""


def combination(timbre: int, look: int) -> int:
    """The index of a timbre and a look into `COMBINATIONS`."""
    return next(i for i, kind in enumerate(COMBINATIONS) if (kind.timbre, kind.look) == (timbre, look))


@dataclass(frozen=True)
class Actor:
    """Something that bounces, and sounds whenever it hits the ground."""

    kind: int
    """Its class, an index into `KINDS`; outside AudioSet and VGGSound an index into `COMBINATIONS`."""
    impacts: tuple[int, ...]
    """Frames at which it hits the ground; its sound starts at `impact / FPS` seconds."""
    size: float
    """0..1, seen as its radius and heard as pitch (bigger is lower) and loudness (bigger is louder)."""
    x: float
    """0..1, left to right: where it bounces at the start of the clip."""
    drift: float
    """How far it moves to the right during the clip, as a share of the picture's width."""
    bounce: float
    """0..1, how high it bounces."""
    shade: float
    """0..1, how bright its look is."""
    ring: float
    """0..1, how long its sound rings."""

    @property
    def timbre(self) -> int:
        return COMBINATIONS[self.kind].timbre

    @property
    def look(self) -> int:
        return COMBINATIONS[self.kind].look


@dataclass(frozen=True)
class Scene:
    """All that happens in one clip."""

    key: tuple[str | int, ...]
    """(seed, dataset, split, index): the source of the randomness of background and noise."""
    room: int
    """0 to `ROOMS` - 1: seen as the tint of its walls, heard as the pitch of its hum."""
    actors: tuple[Actor, ...]
    silent: tuple[Actor, ...] = ()
    """Actors that are seen, and not heard."""


Key = tuple[int, str, str, int]
"""Of a clip: (seed, dataset, split, index)."""


def generator(*key: str | int) -> np.random.Generator:
    """Random numbers that are a function of the key only, in every process and on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def keys(seed: int, dataset: str, counts: Mapping[str, int]) -> Iterator[Key]:
    """The keys of all clips of some splits."""
    return ((seed, dataset, split, index) for split, count in counts.items() for index in range(count))


def scene(key: tuple[str | int, ...], kinds: tuple[int, ...]) -> Scene:
    """The scene of one clip with one actor a class; which classes they are changes nothing else.

    Args:
        key: (seed, dataset, split, index).
        kinds: one or two indices into `COMBINATIONS`, of which the first 30 are the classes.
    """
    rng = generator(*key, "scene")
    places = rng.permutation(len(kinds))
    actors = tuple(_actor(rng, kind, place, len(kinds)) for kind, place in zip(kinds, places, strict=True))
    return Scene(key, room=int(rng.integers(ROOMS)), actors=actors)


def _actor(rng: np.random.Generator, kind: int, place: int, places: int) -> Actor:
    """An actor whose path stays in its own part (`place` of `places`, left to right) of the picture."""
    start, end = 0.12 + 0.76 * (place + rng.uniform(0.25, 0.75, size=2)) / places
    return Actor(
        kind=kind,
        impacts=_rhythm(rng),
        size=float(rng.uniform()),
        x=float(start),
        drift=float(end - start),
        bounce=float(rng.uniform()),
        shade=float(rng.uniform()),
        ring=float(rng.uniform()),
    )


def _rhythm(rng: np.random.Generator) -> tuple[int, ...]:
    """2 to 5 impacts, at least `SHORTEST_GAP` frames apart; each set of a size is equally likely."""
    count = int(rng.integers(2, 6))
    slack = LAST_IMPACT - FIRST_IMPACT + 1 - (count - 1) * (SHORTEST_GAP - 1)
    slots = np.sort(rng.choice(slack, size=count, replace=False))
    return tuple(int(FIRST_IMPACT + slot + i * (SHORTEST_GAP - 1)) for i, slot in enumerate(slots))
