"""VGGSound's official layout: one actor a clip, labelled with its class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv
from datamodules.sample.world import KINDS, LOOKS, TIMBRES, generator, keys, scene

DATASET = "vggsound"
FOLDER = "VGGSound"
COUNTS = {"train": 720, "test": 300}
_CATEGORIES = {"heard": "heard only", "seen": "seen only", "both": "heard and seen"}


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the media files that belong to them."""
    (folder / "video").mkdir()
    rows, clips = [], []
    for key in keys(seed, DATASET, counts):
        id_, kinds = youtube_id(*key), classes_of(key, len(KINDS))
        start = int(generator(*key, "start").integers(0, 400))
        rows.append((id_, start, label(kinds[0]), key[2]))
        clips.append(Clip(folder / f"video/{id_}_{start:06}.mp4", scene(key, kinds)))
    write_csv(folder / "vggsound.csv", rows, end="\r\n")
    # One row a class, not sorted, without a newline at the end.
    count = Counter(row[2] for row in rows)
    classes = [(label(kind), count[label(kind)], _CATEGORIES[KINDS[kind].group]) for kind in range(len(KINDS))]
    write_csv(folder / "stat.csv", classes)
    (folder / "stat.csv").write_text((folder / "stat.csv").read_text().removesuffix("\n"))
    return clips


def label(kind: int) -> str:
    """A class's name."""
    timbre, look = TIMBRES[KINDS[kind].timbre], LOOKS[KINDS[kind].look]
    heard, seen = f"{timbre} sounding", f"{look} bouncing"
    return {"heard": heard, "seen": seen, "both": f"{seen}, {heard}"}[KINDS[kind].group]
