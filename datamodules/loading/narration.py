"""How clips are cut out of narrated videos (HowTo100M), by `NarrationConfig.cut`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from datamodules.source.captions import Said, grow
from datamodules.types import NarrationConfig


class Cut(NamedTuple):
    """A stretch of a video and what is said in it."""

    start: float
    """Seconds."""
    end: float
    text: str = ""


def around_captions(rng: np.random.Generator, said: Said, wanted: NarrationConfig) -> list[Cut]:
    """`captions`: around captions that are drawn without replacement while there are enough."""
    order = rng.permutation(len(said.text))
    return [Cut(*grow(said, int(order[i % len(order)]), wanted.seconds)) for i in range(wanted.per_video)]


def at_random(rng: np.random.Generator, said: Said | None, duration: float, wanted: NarrationConfig) -> list[Cut]:
    """`windows` and `mixed`: where a window begins is drawn anew for each clip.

    Args:
        rng: of this video in this epoch.
        said: its captions; None = they are not looked at (`windows`).
        duration: seconds of the video; a shorter one than the window is taken whole.
        wanted: length and number of the clips.
    """
    latest = max(0.0, duration - wanted.seconds)
    if said is None:
        starts = rng.integers(int(latest) + 1, size=wanted.per_video).astype(float)  # AVLnet `youtube_dataloader.py`
        return [Cut(start, min(duration, start + wanted.seconds)) for start in starts]
    windows = [(start, min(duration, start + wanted.seconds)) for start in rng.uniform(0, latest, wanted.per_video)]
    return [_or_caption(said, start, end, wanted.seconds) for start, end in windows]


def _or_caption(said: Said, start: float, end: float, seconds: float) -> Cut:
    """The caption at the window's start, or else at its end, in the window's place (Everything at Once
    `dataset/howto_dataset.py`)."""
    for moment in (start, end):
        at = np.flatnonzero((said.start <= moment) & (moment <= said.end))
        if len(at):
            return Cut(*grow(said, int(at[-1]), seconds))
    return Cut(start, end)
