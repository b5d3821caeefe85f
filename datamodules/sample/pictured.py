"""The shape of pictures: in each there is one thing, whose look is its class."""

from __future__ import annotations

from datamodules.sample.labelled import classes_of
from datamodules.sample.world import BOTH_LOOKS, LOOKS, NEUTRAL, SEEN_LOOKS, Key, Scene, combination, scene

CLASSES = tuple(sorted(look.replace(" ", "_") for look in (*SEEN_LOOKS, *BOTH_LOOKS)))
"""`black_square`, …"""
FEW = CLASSES[:10]


def pictured(key: Key, classes: tuple[str, ...] = FEW) -> tuple[int, Scene]:
    """The class of a picture, and what is seen in it."""
    (label,) = classes_of(key, len(classes))
    return label, showing(key, classes[label])


def showing(key: Key, *classes: str) -> Scene:
    """A scene of one thing of each class."""
    looks = [LOOKS.index(name.replace("_", " ")) for name in classes]
    return scene(key, tuple(combination(NEUTRAL, look) for look in looks))
