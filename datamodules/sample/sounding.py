"""The shape of clips in which one thing sounds and another one, on the other side of the picture, does not.

A thing covers about a tenth of the picture, and the upper half of a map is half of it: nobody reaches a cIoU of 0.5
here. Whether the peak lies in it, and the AUC, say what a map has learnt.
"""

from __future__ import annotations

from datamodules.sample import picture
from datamodules.sample.audioset_instruments import KINDS
from datamodules.sample.labelled import classes_of
from datamodules.sample.world import FRAMES, Actor, Key, Scene, generator, scene

MIDDLE = FRAMES // 2
"""The frame of the still."""


def sounding(key: Key) -> Scene:
    """An instrument that is heard, on a random side of the middle, and beside it one that is only seen; they look and
    sound as those of AudioSet-Instruments' sample do.

    Args:
        key: (seed, dataset, split, index).
    """
    (heard,) = classes_of(key, len(KINDS))
    silent = (heard + int(generator(*key, "silent").integers(1, len(KINDS)))) % len(KINDS)
    happening = scene(key, (KINDS[heard], KINDS[silent]))
    return Scene(key, happening.room, happening.actors[:1], silent=happening.actors[1:])


def box(actor: Actor) -> tuple[float, float, float, float]:
    """Where it is in the still."""
    return picture.box(actor, MIDDLE)
