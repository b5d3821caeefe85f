"""VGGSound's official layout: one actor a clip, labelled with its class."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip
from datamodules.sample.world import KINDS, LOOKS, TIMBRES, balanced_kind, generator, scene

DATASET = "vggsound"
FOLDER = "VGGSound"
COUNTS = {"train": 720, "test": 300}
_CATEGORIES = {"heard": "heard only", "seen": "seen only", "both": "heard and seen"}


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the media files that belong to them."""
    media = folder / "video"
    media.mkdir()
    rows, clips = [], []
    for split, count in counts.items():
        for index in range(count):
            key = (seed, DATASET, split, index)
            id_, kind = youtube_id(*key), balanced_kind(*key)
            start = int(generator(*key, "start").integers(0, 400))
            rows.append((id_, start, label(kind), split))
            clips.append(Clip(media / f"{id_}_{start:06}.mp4", scene(key, (kind,))))
    with (folder / "vggsound.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows(rows)
    _write_statistics(folder / "stat.csv", Counter(row[2] for row in rows))
    return clips


def label(kind: int) -> str:
    """A class's name."""
    timbre, look = TIMBRES[KINDS[kind].timbre], LOOKS[KINDS[kind].look]
    heard, seen = f"{timbre} sounding", f"{look} bouncing"
    return {"heard": heard, "seen": seen, "both": f"{seen}, {heard}"}[KINDS[kind].group]


def _write_statistics(path: Path, clips_of: Mapping[str, int]) -> None:
    """One row a class, not sorted, without a newline at the end."""
    rows = [(label(kind), clips_of[label(kind)], _CATEGORIES[KINDS[kind].group]) for kind in range(len(KINDS))]
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
        file.truncate(file.tell() - 1)
