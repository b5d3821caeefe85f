"""AudioSet-Instruments' layout: that of AudioSet, with an ontology; each instrument sounds and looks like no other.

So either is enough to know it, and one tells what the other will be like. Their names, and what they are kinds of, are
true excerpts of the ontology. Clips without an instrument stand in the lists only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip
from datamodules.sample.official import write_json, write_lines
from datamodules.sample.world import LOOKS, SECONDS, TIMBRES, Key, combination, generator, keys, scene

DATASET = "audioset_instruments"
FOLDER = "AudioSet-Instruments"
COUNTS = {"unbalanced_train": 480, "balanced_train": 40, "eval": 160}
SHARE_OF_PAIRS = 0.2
EVERY_OTHER = 8
"""Of so many clips one has a label that is no instrument, too, and beside as many stands one with no other label."""

INSTRUMENTS = {
    "Chime": ("chime", "white bar"),
    "French horn": ("horn", "orange star"),
    "Flute": ("whistle", "cyan diamond"),
    "Cymbal": ("hiss", "yellow triangle"),
    "Theremin": ("warble", "violet ring"),
    "Electric guitar": ("buzzer", "red square"),
    "Rattle (instrument)": ("rattle", "green ring"),
    "Drum": ("drum", "black square"),
    "Church bell": ("bell", "magenta disc"),
    "Acoustic guitar": ("string", "blue cross"),
}
"""Class -> its timbre and its look."""
OTHERS = ("Speech", "Dog")
PARENTS = {
    **dict.fromkeys(("Chime", "Church bell"), ("Bell",)),
    "Bell": ("Musical instrument", "Sounds of things"),
    **dict.fromkeys(("Acoustic guitar", "Electric guitar"), ("Guitar",)),
    "Guitar": ("Plucked string instrument",),
    **dict.fromkeys(("Cymbal", "Drum", "Rattle (instrument)"), ("Percussion",)),
    "French horn": ("Brass instrument",),
    "Flute": ("Wind instrument, woodwind instrument",),
    **dict.fromkeys(
        (
            *("Theremin", "Percussion", "Plucked string instrument", "Brass instrument"),
            "Wind instrument, woodwind instrument",
        ),
        ("Musical instrument",),
    ),
    "Musical instrument": ("Music",),
    "Speech": ("Human voice",),
    "Human voice": ("Human sounds",),
    "Dog": ("Domestic animals, pets",),
    "Domestic animals, pets": ("Animal",),
}
"""Class -> the classes right above it."""
CLASSES = (*INSTRUMENTS, *OTHERS)
ONTOLOGY = tuple(dict.fromkeys((*CLASSES, *PARENTS, *(above for each in PARENTS.values() for above in each))))
KINDS = tuple(
    combination(TIMBRES.index(timbre), LOOKS.index(look)) for timbre, look in INSTRUMENTS.values()
)  # fmt: skip


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official files into `folder`; returns the media files that belong to them."""
    classes = (f'{index},{mid(name)},"{name}"' for index, name in enumerate(CLASSES))
    write_lines(folder / "class_labels_indices.csv", ["index,mid,display_name", *classes])
    write_json(folder / "ontology.json", [entry(name) for name in ONTOLOGY])
    rows: dict[str, list[str]] = {split: [] for split in counts}
    clips = []
    for split in counts:
        (folder / f"{split}_segments").mkdir()
    for key in keys(seed, DATASET, counts):
        *_, split, index = key
        kinds = classes_of(key, len(KINDS), SHARE_OF_PAIRS)
        other = OTHERS[index // EVERY_OTHER % len(OTHERS)]
        also = [other] if index % EVERY_OTHER == 1 else []
        rows[split].append(_row(key, youtube_id(*key), [*sorted(CLASSES[kind] for kind in kinds), *also]))
        if index % EVERY_OTHER == 2:
            rows[split].append(_row(key, youtube_id(seed, DATASET, f"{split} others", index), [other]))
        happening = scene(key, tuple(KINDS[kind] for kind in kinds))
        clips.append(Clip(folder / f"{split}_segments/Y{youtube_id(*key)}.mp4", happening))
    for split, segments in rows.items():
        header = [
            "# Segments csv of made-up data, see SAMPLE.json",
            "# YTID, start_seconds, end_seconds, positive_labels",
        ]
        write_lines(folder / f"{split}_segments.csv", [*header, *segments])
    return clips


def _row(key: Key, id_: str, labels: list[str]) -> str:
    start = 10 * int(generator(*key, "start").integers(0, 40))
    return f'{id_}, {start:.3f}, {start + SECONDS:.3f}, "{",".join(map(mid, labels))}"'


def entry(name: str) -> dict[str, object]:
    """A class as the ontology has it; the file has texts and links besides."""
    children = [mid(below) for below, parents in PARENTS.items() if name in parents]
    return {"id": mid(name), "name": name, "description": "", "child_ids": children, "restrictions": []}


def mid(name: str) -> str:
    """The class's made-up machine id; as in AudioSet, a few do not start with `/m/`."""
    number = ONTOLOGY.index(name)
    return f"/t/dd92{number:02}" if number % 10 == 9 else f"/m/0ins{number:02}"
