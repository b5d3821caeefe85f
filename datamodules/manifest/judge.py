"""What is to be said of one file. The processes that judge media import this alone: it is quick to import."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from datamodules.errors import FileError
from datamodules.media.container import MediaError
from datamodules.media.decode import Media

STILL_MOMENTS = (0.1, 0.35, 0.6, 0.85)
"""Shares of the duration at which pictures are compared."""
STILL_DIFFERENCE = 1.0
"""Mean difference of grey values (of 255) up to which two pictures are the same: what coding noise makes."""


class Judgement(NamedTuple):
    """What is to be said of a media file. A reason is why it cannot be used for its sound or pictures, empty if it
    can."""

    audio_reason: str
    audio_duration: float
    """Seconds, of whichever ends last; NaN if it cannot be used."""
    sound_end: float
    """Second at which the sound ends; NaN if it cannot be used."""
    video_reason: str
    video_duration: float
    still: bool
    """Its pictures are all the same one. That is a fact, not a fault: such clips are used."""


class Fault(NamedTuple):
    """What is to be said of any other file."""

    reason: str
    """Why it cannot be used, empty if it can."""


def fault(check: Callable[[str], object], path: str) -> Fault:
    """What a check says, which raises a `FileError` of a file that cannot be used."""
    try:
        check(path)
    except FileError as error:
        return Fault(error.reason)
    return Fault("")


def judge(path: str) -> Judgement:
    """Decodes a file's sound, and enough of its pictures, to know whether they can be used."""
    (audio_reason, audio_duration, sound_end), (video_reason, video_duration, _) = (
        _usable(path, kind) for kind in ("audio", "video")
    )
    still = not video_reason and _is_still(path, video_duration)
    return Judgement(audio_reason, audio_duration, sound_end, video_reason, video_duration, still)


def _usable(path: str, kind: str) -> tuple[str, float, float]:
    """(Why not, seconds, second at which the sound ends)."""
    try:
        with Media(path) as media:
            info = media.check(need_audio=kind == "audio", need_video=kind == "video")
    except MediaError as error:
        return error.reason, math.nan, math.nan
    return "", info.duration, info.sound_end


def _is_still(path: str, duration: float) -> bool:
    try:
        with Media(path) as media:
            grey = media.frames([duration * share for share in STILL_MOMENTS], size=32).mean(axis=-1)
    except MediaError:
        return False
    return bool(np.abs(grey - grey[0]).mean(axis=(1, 2)).max() < STILL_DIFFERENCE)
