"""The language of the made-up world: what is said of an actor, the words there are, and what each sounds like."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from datamodules.sample.world import LOOKS, NEUTRAL, TIMBRES, Kind, generator

TOOLS = {
    "chime": ("strike", "chime"),
    "horn": ("blow", "horn"),
    "whistle": ("blow", "whistle"),
    "hiss": ("vent", "steam"),
    "rising chirp": ("raise", "tone"),
    "falling chirp": ("lower", "tone"),
    "buzzer": ("press", "buzzer"),
    "warble": ("start", "siren"),
    "rattle": ("shake", "rattle"),
    "drum": ("beat", "drum"),
    "bell": ("ring", "bell"),
    "beep": ("press", "beeper"),
    "string": ("pluck", "string"),
    "whoosh": ("spin", "fan"),
    "cricket": ("wake", "cricket"),
}
"""Timbre -> the verb and the noun for it. The neutral thud goes without saying."""
FILLERS = ("so", "now", "then", "okay", "and", "we", "just", "next", "here", "first", "gonna")

Words = tuple[str, ...]


def sentence(kind: Kind) -> Words:
    """What an actor of this kind does: "bounce the red square", "ring the bell (with the red square)"."""
    look = ("the", *LOOKS[kind.look].split())
    if kind.timbre == NEUTRAL:
        return "bounce", *look
    verb, noun = TOOLS[TIMBRES[kind.timbre]]
    return (verb, "the", noun) if kind.look == NEUTRAL else (verb, "the", noun, "with", *look)


def _vocabulary() -> Words:
    looks = {word for look in LOOKS for word in look.split()}
    tools = {word for pair in TOOLS.values() for word in pair}
    return tuple(sorted({"bounce", "the", "with", *looks, *tools, *FILLERS}))


VOCABULARY = _vocabulary()
"""All words of all sentences and captions, sorted."""

WORD_SECONDS = 0.2
SYLLABLES = 2
FORMANTS = ((250.0, 800.0), (900.0, 2000.0), (2200.0, 3600.0))  # Hz, the lowest and the highest of each
FORMANT_LEVELS = (1.0, 0.8, 0.6)
PITCH = 110.0  # Hz, at which the voice pulses: no timbre does
LOUDNESS = 0.45


@lru_cache(maxsize=256)
def say(word: str, sample_rate: int, voice: float = 0.0) -> NDArray[np.float64]:
    """[T] the sound of a word, `WORD_SECONDS` long: two syllables of three tones each, always the same.

    It is a function of the word and the voice (octaves above the narrator's) only, whatever the seed of the data, so
    that all narrated datasets share a language.
    """
    low, high = np.array(FORMANTS).T
    hz_SF = 2**voice * low * (high / low) ** generator("word", word).uniform(size=(SYLLABLES, len(FORMANTS)))
    time_T = np.arange(round(WORD_SECONDS / SYLLABLES * sample_rate)) / sample_rate
    tones_SFT = np.sin(2 * np.pi * hz_SF[:, :, None] * time_T)
    syllables_ST = np.einsum("f,sft->st", FORMANT_LEVELS, tones_SFT)
    rise_and_fall_T = np.sin(np.pi * time_T * SYLLABLES / WORD_SECONDS) ** 0.5
    pulses_T = 0.7 + 0.3 * np.cos(2 * np.pi * 2**voice * PITCH * time_T)
    wave = (syllables_ST * rise_and_fall_T * pulses_T).ravel()
    wave = LOUDNESS * wave / np.abs(wave).max()
    wave.flags.writeable = False
    return wave
