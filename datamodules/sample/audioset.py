"""AudioSet's official layout: one or two actors a clip, labelled with the set of their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.ids import youtube_id
from datamodules.sample.media import Clip, Flaw
from datamodules.sample.world import KINDS, LOOKS, SECONDS, TIMBRES, balanced_kind, generator, scene

DATASET = "audioset"
FOLDER = "AudioSet"
COUNTS = {"unbalanced_train": 720, "balanced_train": 360, "eval": 300}
SHARE_OF_PAIRS = 0.4
FLAWS: dict[str, dict[int, Flaw]] = {
    "unbalanced_train": {7: "missing", 13: "truncated", 19: "missing", 31: "silent", 43: "text"}
}
"""Split -> index of a clip -> what is wrong with its file."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the media files that belong to them."""
    _write_classes(folder / "class_labels_indices.csv")
    clips = []
    for split, count in counts.items():
        scenes = [scene((seed, DATASET, split, i), _kinds(seed, split, i)) for i in range(count)]
        ids = [youtube_id(seed, DATASET, split, i) for i in range(count)]
        labels = [sorted(actor.kind for actor in scene.actors) for scene in scenes]
        _write_segments(folder / f"{split}_segments.csv", seed, split, ids, labels)
        media = folder / f"{split}_segments"
        media.mkdir()
        flaws = FLAWS.get(split, {})
        clips += [
            Clip(media / f"Y{id_}.mp4", scene, flaws.get(i, ""))
            for i, (id_, scene) in enumerate(zip(ids, scenes, strict=True))
        ]
    return clips


def mid(kind: int) -> str:
    """The class's made-up machine id; as in AudioSet, a few do not start with `/m/`."""
    return f"/t/dd90{kind:02}" if kind % 10 == 9 else f"/m/0avl{kind:02}"


def display_name(kind: int) -> str:
    """A class's name as a label."""
    timbre, look = TIMBRES[KINDS[kind].timbre].capitalize(), LOOKS[KINDS[kind].look].capitalize()
    return {"heard": timbre, "seen": look, "both": f"{timbre}, {look.lower()}"}[KINDS[kind].group]


def _kinds(seed: int, split: str, index: int) -> tuple[int, ...]:
    """The one or two classes of a clip; the first is balanced over the split."""
    first = balanced_kind(seed, DATASET, split, index)
    rng = generator(seed, DATASET, split, index, "second actor")
    if rng.uniform() >= SHARE_OF_PAIRS:
        return (first,)
    return first, (first + int(rng.integers(1, len(KINDS)))) % len(KINDS)


def _write_classes(path: Path) -> None:
    rows = [f'{kind},{mid(kind)},"{display_name(kind)}"\n' for kind in range(len(KINDS))]
    path.write_text("index,mid,display_name\n" + "".join(rows))


def _write_segments(path: Path, seed: int, split: str, ids: list[str], labels: list[list[int]]) -> None:
    """Three comment lines, then rows with a blank after each comma and all labels in one quoted field."""
    present = {kind for kinds in labels for kind in kinds}
    lines = [
        "# Segments csv of made-up data, see SAMPLE.json",
        f"# num_ytids={len(ids)}, num_segs={len(ids)}, num_unique_labels={len(present)}, "
        f"num_positive_labels={sum(map(len, labels))}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    for index, (id_, kinds) in enumerate(zip(ids, labels, strict=True)):
        start = 10 * int(generator(seed, DATASET, split, index, "start").integers(0, 40))
        lines.append(f'{id_}, {start:.3f}, {start + SECONDS:.3f}, "{",".join(map(mid, kinds))}"')
    path.write_text("\n".join(lines) + "\n")
