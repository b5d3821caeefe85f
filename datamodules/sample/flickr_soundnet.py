"""Flickr-SoundNet's official layout: pictures and sound, with the boxes of three people around what sounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv
from datamodules.sample.sounding import box, sounding
from datamodules.sample.world import Key, generator, keys

DATASET = "flickr_soundnet"
FOLDER = "Flickr-SoundNet"
COUNTS = {"test": 60}
PIXELS = 256
PEOPLE = 3
SLOPPY = 5.0
"""Pixels by which a corner is off, as a standard deviation."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the media files that belong to them."""
    for media in ("audio", "frames", "Annotations"):
        (folder / media).mkdir()
    rows, clips = [], []
    for key in keys(seed, DATASET, counts):
        index = key[-1]
        name, happening = str(10**9 + 7919 * index + int(generator(*key, "id").integers(7919))), sounding(key)
        rows.append((name, 3 * index))
        (folder / f"Annotations/{name}.xml").write_text(_drawn(key, box(happening.actors[0])))
        clips.append(Clip(folder / f"audio/{name}.wav", happening, still=folder / f"frames/{name}.jpg"))
    write_csv(folder / "metadata/flickr_test.csv", rows, end="\r\n")
    # Without a line end in the last line.
    path = folder / "metadata/flickr_test.csv"
    path.write_bytes(path.read_bytes().removesuffix(b"\r\n"))
    return clips


def _drawn(key: Key, corners: tuple[float, float, float, float]) -> str:
    """The boxes of all people, as XML."""
    rng = generator(*key, "people")
    root = ElementTree.Element("annotation")
    for person in range(PEOPLE):
        drawn = ElementTree.SubElement(ElementTree.SubElement(root, f"annotator{person + 1}"), "bbox")
        ElementTree.SubElement(drawn, "name").text = "object"
        off = rng.normal(0, SLOPPY, size=4)
        for name, share, pixels in zip(("xmin", "ymin", "xmax", "ymax"), corners, off, strict=True):
            ElementTree.SubElement(drawn, name).text = str(int(min(max(PIXELS * share + pixels, 0), PIXELS)))
    return ElementTree.tostring(root, encoding="unicode") + "\n"
