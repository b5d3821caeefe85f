"""ESC-50's official layout: one timbre a recording, five folds, clips of one source in one fold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.labelled import recording
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv
from datamodules.sample.timeline import Timeline
from datamodules.sample.world import HEARD_TIMBRES, NEUTRAL, ROOMS, TIMBRES, Key, combination, generator, keys, scene

DATASET = "esc50"
FOLDER = "ESC-50"
COUNTS = {f"fold{fold}": 3 * len(TIMBRES) for fold in range(1, 6)}
SECONDS = 1.4
PADDED_FROM = 0.9  # seconds
PADDED_EVERY = 7
"""Every 7th clip of a fold ends in digital silence, as recordings shorter than the official 5 s do."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV file into `folder`; returns the recordings that belong to it."""
    (folder / "audio").mkdir()
    rows, clips = [], []
    for key in keys(seed, DATASET, counts):
        *_, split, index = key
        fold, (take, timbre) = int(split.removeprefix("fold")), divmod(index, len(TIMBRES))
        source, letter = _source(seed, fold, timbre, take // 2), "AB"[take % 2]
        name = f"{fold}-{source}-{letter}-{timbre}.wav"
        category, esc10 = TIMBRES[timbre].replace(" ", "_"), TIMBRES[timbre] in HEARD_TIMBRES
        rows.append((name, fold, timbre, category, esc10, source, letter))
        clips.append(Clip(folder / "audio" / name, _recording(key, source, timbre)))
    header = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    write_csv(folder / "meta/esc50.csv", sorted(rows), header)
    return clips


def _source(seed: int, fold: int, timbre: int, number: int) -> int:
    """A made-up Freesound id: no two sources share one."""
    place = (number * len(TIMBRES) + timbre) * 5 + fold - 1
    return 10_000 + 61 * place + int(generator(seed, DATASET, "source", place).integers(61))


def _recording(key: Key, source: int, timbre: int) -> Timeline:
    """Takes of one source have the same actor in the same room, and differ in rhythm and noise."""
    seed, *_, index = key
    actors = scene((seed, DATASET, "source", source), (combination(timbre, NEUTRAL),)).actors
    room = int(generator(seed, DATASET, "room", source).integers(ROOMS))
    silent_from = PADDED_FROM if index % PADDED_EVERY == PADDED_EVERY - 1 else math.inf
    return recording(key, generator(*key, "impacts"), actors, room, SECONDS, silent_from)
