"""The shape of labelled clips: each is of one or two classes; pictures with sound (`world.scene`), or sound alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np

from datamodules.sample.timeline import Timeline, Turn, impacts
from datamodules.sample.world import Actor, Key, generator


def classes_of(key: Key, classes: int, share_of_pairs: float = 0.0) -> tuple[int, ...]:
    """The one or two classes of a clip: of the first, every `classes` clips in a row hold each once, in random order.

    Args:
        key: (seed, dataset, split, index).
        classes: how many there are.
        share_of_pairs: of the clips, how many have a second, different class.
    """
    seed, dataset, split, index = key
    block, position = divmod(index, classes)
    first = int(generator(seed, dataset, split, "block", block).permutation(classes)[position])
    rng = generator(*key, "second actor")
    if rng.uniform() >= share_of_pairs:
        return (first,)
    return first, (first + int(rng.integers(1, classes))) % classes


def recording(
    key: Key,
    rng: np.random.Generator,
    actors: Iterable[Actor],
    room: int,
    seconds: float,
    silent_from: float = math.inf,
) -> Timeline:
    """Sound alone, of any length: each actor in a rhythm that lasts until the end, or until the silence."""
    end = min(seconds, silent_from)
    turns = tuple(Turn(0, dataclasses.replace(actor, impacts=impacts(rng, end))) for actor in actors)
    return Timeline(key, room, round(seconds, 3), turns, silent_from=silent_from)
