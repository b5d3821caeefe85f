"""The shape of what somebody says: words one after the other, in a voice of the speaker's own."""

from __future__ import annotations

from datamodules.sample.narration import VOCABULARY, WORD_SECONDS
from datamodules.sample.timeline import Timeline
from datamodules.sample.world import ROOMS, Key, generator

PAUSE = 0.1  # seconds, the longest
LOWEST, HIGHEST = -0.6, 0.9  # octaves, of voices


def saying(key: Key, seconds: float, voice: float) -> Timeline:
    """Words at random, all the time."""
    draws = generator(*key, "words")
    words, at = [], 0.0
    while (at := at + float(draws.uniform(0, PAUSE))) + WORD_SECONDS <= seconds:
        words.append((round(at, 3), VOCABULARY[int(draws.integers(len(VOCABULARY)))]))
        at += WORD_SECONDS
    return Timeline(key, int(draws.integers(ROOMS)), round(seconds, 3), (), words=tuple(words), voice=voice)


def voice_of(speaker: int, speakers: int) -> float:
    """That of one of so many, which lie evenly."""
    return LOWEST + (HIGHEST - LOWEST) * speaker / (speakers - 1)
