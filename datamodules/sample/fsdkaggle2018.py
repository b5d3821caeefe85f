"""FSDKaggle2018's official layout: one timbre a recording; a training label in ten that nobody verified is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.fsdkaggle2018 import TEST, TRAIN
from datamodules.sample.labelled import classes_of, recording
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv
from datamodules.sample.timeline import Timeline
from datamodules.sample.world import NEUTRAL, TIMBRES, Key, combination, generator, keys, scene

DATASET = "fsdkaggle2018"
FOLDER = "FSDKaggle2018"
COUNTS = {"train": 208, "test": 96}
VERIFIED, WRONG = 0.4, 0.1
"""Shares of training clips, and of those that are not verified."""
SHORTEST, LONGEST = 0.6, 4.0  # seconds
LABEL_OF = {
    **{"thud": "Knock", "chime": "Glockenspiel", "horn": "Trumpet", "whistle": "Flute", "hiss": "Tearing"},
    **{"rising chirp": "Squeak", "falling chirp": "Meow", "buzzer": "Bus", "warble": "Telephone", "rattle": "Scissors"},
    **{"drum": "Bass_drum", "bell": "Gong", "beep": "Microwave_oven", "string": "Acoustic_guitar"},
    **{"whoosh": "Fireworks", "cricket": "Tambourine"},
}


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the recordings that belong to them."""
    rows: dict[str, list[tuple[object, ...]]] = {"train": [], "test": []}
    clips = []
    for key in keys(seed, DATASET, counts):
        split = key[2]
        (timbre,) = classes_of(key, len(TIMBRES))
        draws = generator(*key, "about")
        name, freesound_id = f"{int(draws.integers(2**32)):08x}.wav", int(draws.integers(1000, 400_000))
        verified = draws.uniform() < VERIFIED
        if split == "test":
            mark: object = "Public" if draws.uniform() < 0.2 else "Private"
        else:
            mark = int(verified)
        wrong = split == "train" and not verified and draws.uniform() < WRONG
        called = TIMBRES[int(draws.integers(len(TIMBRES))) if wrong else timbre]
        rows[split].append((name, LABEL_OF[called], mark, freesound_id, "Attribution"))
        media = folder / f"FSDKaggle2018.audio_{split}"
        media.mkdir(exist_ok=True)
        clips.append(Clip(media / name, _recording(key, timbre)))
    for split, file, mark in (("train", TRAIN, "manually_verified"), ("test", TEST, "usage")):
        header = ("fname", "label", mark, "freesound_id", "license")
        write_csv(folder / "FSDKaggle2018.meta" / file, sorted(rows[split]), header)
    return clips


def _recording(key: Key, timbre: int) -> Timeline:
    """Mostly about a second long, a few up to `LONGEST`."""
    rng = generator(*key, "recording")
    happening = scene(key, (combination(timbre, NEUTRAL),))
    seconds = SHORTEST * (LONGEST / SHORTEST) ** (rng.uniform() ** 4)
    return recording(key, rng, happening.actors, happening.room, seconds)
