"""Speech Commands' official layout for 12 classes: ten words, a tenth as many others, and noise."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.speechcommands import saying, spoken, write_lists
from datamodules.sample.timeline import Timeline
from datamodules.sample.world import ROOMS, Key, generator, keys
from datamodules.speechcommands import WORDS
from datamodules.speechcommands12 import CLASSES, NOISE, NOISE_SECONDS, SILENCE, UNKNOWN, WANTED, SpeechCommands12

DATASET = "speechcommands12"
FOLDER = "SpeechCommands-v1"
COUNTS = {"train": 133, "val": 45, "test": 60}
"""The first recording of each of the first two is a minute of noise."""
NOISES = {"train": "white_noise", "val": "running_tap"}
OTHERS = tuple(word for word in WORDS if word not in WANTED)


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official lists into `folder`; returns the recordings."""
    release, clips = folder / SpeechCommands12.release, []
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        if split == "test":
            clips.append(_tested(folder / SpeechCommands12.tested, key))
        elif index == 0:
            path = release / NOISE / f"{NOISES[split]}.wav"
            clips.append(Clip(_touched(path), Timeline(key, _room(key), NOISE_SECONDS, ())))
        else:
            # Of 22 in a row, 20 say each of the ten words twice, and two another.
            (place,) = classes_of((*key[:3], index - 1), 2 * len(WANTED) + 2)
            word = WANTED[place // 2] if place < 2 * len(WANTED) else _other(key)
            clips.append(Clip(spoken(release, key, word), saying(key, word)))
    write_lists(release, [clip for clip in clips if clip.path.parent.name in WORDS and release in clip.path.parents])
    return clips


def _tested(folder: Path, key: Key) -> Clip:
    """A recording of the archive of test recordings."""
    (label,) = classes_of(key, len(CLASSES))
    word = _other(key) if CLASSES[label] == UNKNOWN else CLASSES[label]
    path = spoken(folder, key, CLASSES[label])
    return Clip(path, Timeline(key, _room(key), 1.0, ()) if word == SILENCE else saying(key, word))


def _other(key: Key) -> str:
    return OTHERS[int(generator(*key, "other").integers(len(OTHERS)))]


def _room(key: Key) -> int:
    return int(generator(*key, "room").integers(ROOMS))


def _touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
