"""Recordings of any length: actors that come and go, and a voice over them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datamodules.sample import narration, picture, sound
from datamodules.sample.world import FPS, FRAMES, SHORTEST_GAP, Actor, generator

LAST_IMPACT_SECONDS = 0.4
"""The last impact of a short recording is at least this long before its end."""


@dataclass(frozen=True)
class Turn:
    """One actor's `world.SECONDS` on the stage."""

    start: int
    """Frame in which it appears; its impacts are counted from there."""
    actor: Actor


@dataclass(frozen=True)
class Timeline:
    """All that happens in one recording."""

    key: tuple[str | int, ...]
    """(seed, dataset, split, index): the source of the randomness of background and noise."""
    room: int
    seconds: float
    turns: tuple[Turn, ...]
    loudness: float = 1.0
    """Of the impacts, 1 as in `sound`."""
    words: tuple[tuple[float, str], ...] = ()
    """What the voice says: (seconds, word)."""
    silent_from: float = math.inf
    """Seconds after which there is digital silence, as in recordings that were padded to a fixed length."""
    voice: float = 0.0
    """Octaves by which it is higher than the narrator's."""


def impacts(rng: np.random.Generator, seconds: float) -> tuple[int, ...]:
    """Frames of the impacts in a recording of `seconds` (0.6 or more): one at its very start, others at random."""
    frames = [int(rng.integers(2))]
    while (frame := frames[-1] + int(rng.integers(SHORTEST_GAP, 9))) <= (seconds - LAST_IMPACT_SECONDS) * FPS:
        frames.append(frame)
    return tuple(frames)


def render_sound(timeline: Timeline) -> NDArray[np.float32]:
    """[T] mono sound at `sound.SAMPLE_RATE` in -1..1, `timeline.seconds` long."""
    rng = generator(*timeline.key, "sound")
    waveform = sound.background(timeline.room, timeline.seconds, rng)
    for turn in timeline.turns:
        impact_sound = timeline.loudness * sound.event(turn.actor, rng)
        for impact in turn.actor.impacts:
            sound.mix(waveform, impact_sound, (turn.start + impact) * sound.SAMPLE_RATE // FPS)
    for seconds, word in timeline.words:
        sound.mix(waveform, narration.say(word, sound.SAMPLE_RATE, timeline.voice), round(seconds * sound.SAMPLE_RATE))
    if timeline.silent_from < timeline.seconds:
        waveform[int(timeline.silent_from * sound.SAMPLE_RATE) :] = 0
    return np.clip(waveform, -1, 1).astype(np.float32)


def render_picture(timeline: Timeline) -> NDArray[np.uint8]:
    """[round(seconds * FPS), SIZE, SIZE, 3] RGB; turns must not overlap, nor outlast the recording."""
    empty = picture.background(timeline.room, generator(*timeline.key, "picture"))
    frames = np.repeat(picture.rounded(empty)[None], round(timeline.seconds * FPS), axis=0)
    for turn in timeline.turns:
        stage = np.repeat(empty[None], FRAMES, axis=0)
        picture.light_floor(stage, turn.actor)
        picture.draw(stage, turn.actor)
        frames[turn.start : turn.start + FRAMES] = picture.rounded(stage)
    return frames
