"""VoxCeleb1's official layout: each speaker has a voice, and says what comes to mind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.spoken import saying, voice_of
from datamodules.sample.world import generator, keys
from datamodules.voxceleb1 import LIST, SPLITS

DATASET = "voxceleb1"
FOLDER = "VoxCeleb1"
COUNTS = {"train": 96, "val": 16, "test": 48}
SPEAKERS = 8
UTTERANCES = 2
"""Of a video."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official list into `folder`; returns the utterances that belong to it."""
    lines, clips = [], []
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        (speaker,) = classes_of(key, SPEAKERS)
        block, rest = divmod(index, SPEAKERS * UTTERANCES)
        video = youtube_id(seed, DATASET, f"{split} {speaker}", block)
        number = 1 + UTTERANCES * int(generator(video).integers(50)) + rest // SPEAKERS
        place = Path(f"id1{speaker:04}/{video}/{number:05}.wav")
        lines.append(f"{SPLITS[split]} {place}")
        (folder / "wav" / place).parent.mkdir(parents=True, exist_ok=True)
        seconds = float(generator(*key, "length").uniform(1.2, 2.0))
        clips.append(Clip(folder / "wav" / place, saying(key, seconds, voice_of(speaker, SPEAKERS))))
    lines.sort(key=lambda line: line[2:])
    write_lines(folder / LIST, lines)
    return clips
