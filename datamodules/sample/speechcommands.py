"""Speech Commands' official layout: the voice of the made-up world says one word a recording."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.narration import WORD_SECONDS
from datamodules.sample.official import write_lines
from datamodules.sample.timeline import Timeline
from datamodules.sample.world import ROOMS, Key, generator, keys
from datamodules.speechcommands import LISTS, WORDS, SpeechCommands

DATASET = "speechcommands"
FOLDER = "SpeechCommands"
COUNTS = {"train": 140, "val": 35, "test": 70}
SHORTEST = 0.6
"""Seconds: few recordings are as long as the second that they may last."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official lists into `folder`; returns the recordings, of which those for training are not listed."""
    clips = [
        Clip(spoken(folder / SpeechCommands.release, key, WORDS[label]), saying(key, WORDS[label]))
        for key in keys(seed, DATASET, counts)
        for label in classes_of(key, len(WORDS))
    ]
    write_lists(folder / SpeechCommands.release, clips)
    return clips


def spoken(folder: Path, key: Key, word: str) -> Path:
    """The place of the recording of a word, by a speaker whose recordings belong to its split; it is made, empty."""
    draws = generator(*key, "speaker")
    while split_of(speaker := f"{int(draws.integers(2**32)):08x}") != key[2]:
        pass
    path = folder / word / f"{speaker}_nohash_{int(draws.integers(3))}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def saying(key: Key, word: str) -> Timeline:
    """A word somewhere in a recording."""
    draws = generator(*key, "recording")
    seconds = round(float(draws.uniform(SHORTEST, 1)), 3)
    start = float(draws.uniform(0, seconds - WORD_SECONDS))
    return Timeline(key, int(draws.integers(ROOMS)), seconds, (), words=((start, word),))


def write_lists(folder: Path, clips: Sequence[Clip]) -> None:
    """Writes what is for validation and for testing."""
    for split, name in LISTS.items():
        of_split = (clip.path for clip in clips if clip.scene.key[2] == split)
        write_lines(folder / name, sorted(f"{path.parent.name}/{path.name}" for path in of_split))


def split_of(speaker: str) -> str:
    """TensorFlow's `which_set`: 10 % of speakers are for validation and 10 % for testing."""
    most = 2**27 - 1
    percentage = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1) * 100 / most
    return "val" if percentage < 10 else "test" if percentage < 20 else "train"
