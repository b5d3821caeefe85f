"""AudioSet's official layout: one or two actors a clip, labelled with the set of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.labelled import classes_of
from datamodules.sample.media import Clip, Flaw
from datamodules.sample.official import write_lines
from datamodules.sample.world import KINDS, LOOKS, SECONDS, TIMBRES, generator, keys, scene

DATASET = "audioset"
FOLDER = "AudioSet"
COUNTS = {"unbalanced_train": 720, "balanced_train": 360, "eval": 300}
SHARE_OF_PAIRS = 0.4
FLAWS: dict[tuple[str, int], Flaw] = {
    **{("unbalanced_train", 7): "missing", ("unbalanced_train", 13): "truncated", ("unbalanced_train", 19): "missing"},
    **{("unbalanced_train", 31): "silent", ("unbalanced_train", 43): "text"},
}
"""Split and index of a clip -> what is wrong with its file."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the media files that belong to them."""
    classes = (f'{kind},{mid(kind)},"{display_name(kind)}"' for kind in range(len(KINDS)))
    write_lines(folder / "class_labels_indices.csv", ["index,mid,display_name", *classes])
    rows: dict[str, list[str]] = {split: [] for split in counts}
    labels: dict[str, list[int]] = {split: [] for split in counts}
    clips = []
    for split in counts:
        (folder / f"{split}_segments").mkdir()
    for key in keys(seed, DATASET, counts):
        *_, split, index = key
        id_, happening = youtube_id(*key), scene(key, classes_of(key, len(KINDS), SHARE_OF_PAIRS))
        kinds = sorted(actor.kind for actor in happening.actors)
        start = 10 * int(generator(*key, "start").integers(0, 40))
        labels[split] += kinds
        rows[split].append(f'{id_}, {start:.3f}, {start + SECONDS:.3f}, "{",".join(map(mid, kinds))}"')
        clips.append(Clip(folder / f"{split}_segments/Y{id_}.mp4", happening, FLAWS.get((split, index), "")))
    for split, segments in rows.items():
        write_lines(folder / f"{split}_segments.csv", [*_header(len(segments), labels[split]), *segments])
    return clips


def mid(kind: int) -> str:
    """The class's made-up machine id; as in AudioSet, a few do not start with `/m/`."""
    return f"/t/dd90{kind:02}" if kind % 10 == 9 else f"/m/0avl{kind:02}"


def display_name(kind: int) -> str:
    """A class's name as a label."""
    timbre, look = TIMBRES[KINDS[kind].timbre].capitalize(), LOOKS[KINDS[kind].look].capitalize()
    return {"heard": timbre, "seen": look, "both": f"{timbre}, {look.lower()}"}[KINDS[kind].group]


def _header(clips: int, labels: list[int]) -> list[str]:
    """Three comment lines; the rows have a blank after each comma and all labels in one quoted field."""
    return [
        "# Segments csv of made-up data, see SAMPLE.json",
        f"# num_ytids={clips}, num_segs={clips}, num_unique_labels={len(set(labels))}, "
        f"num_positive_labels={len(labels)}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
