"""VGG-SS' official layout: middle frames and sound, with a box around what sounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.audioset_instruments import INSTRUMENTS, KINDS
from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv, write_json
from datamodules.sample.sounding import box, sounding
from datamodules.sample.world import generator, keys

DATASET = "vgg_ss"
FOLDER = "VGG-SS"
COUNTS = {"test": 120}
BEYOND = -2.8823037615171176e16
"""What the official file has for a few coordinates."""
EVERY_EMPTY = 20
"""Of so many clips one has a second box, which is none, as its last coordinate is `BEYOND`."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the media files that belong to them."""
    for media in ("audio", "frames"):
        (folder / media).mkdir()
    entries, clips = [], []
    for key in keys(seed, DATASET, counts):
        name = f"{youtube_id(*key)}_{int(generator(*key, 'start').integers(0, 400)):06}"
        happening = sounding(key)
        (heard,) = happening.actors
        boxes = [list(box(heard))]
        if key[-1] % EVERY_EMPTY == 5:
            boxes.append([0.5, 0.5, 0.75, BEYOND])
        label = f"playing {list(INSTRUMENTS)[KINDS.index(heard.kind)].lower()}"
        entries.append({"file": name, "class": label, "bbox": boxes})
        clips.append(Clip(folder / f"audio/{name}.wav", happening, still=folder / f"frames/{name}.jpg"))
    write_json(folder / "metadata/vggss.json", entries)
    write_csv(folder / "metadata/vggss_test.csv", ([entry["file"]] for entry in entries), end="\r\n")
    return clips
