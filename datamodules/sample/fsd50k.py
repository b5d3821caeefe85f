"""FSD50K's official layout: one or two timbres a recording, with the classes above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.sample.labelled import classes_of, recording
from datamodules.sample.media import Clip
from datamodules.sample.official import write_csv
from datamodules.sample.timeline import Timeline
from datamodules.sample.world import NEUTRAL, TIMBRES, Key, combination, generator, keys, scene

DATASET = "fsd50k"
FOLDER = "FSD50K"
COUNTS = {"train": 208, "val": 64, "eval": 112}
SHARE_OF_PAIRS = 0.35
SHORTEST, LONGEST = 0.6, 4.0  # seconds

PARENTS = {
    **dict.fromkeys(("Chime", "Bell"), "Chime_and_bell"),
    **dict.fromkeys(("Chime_and_bell", "Horn", "String", "Drum"), "Musical_instrument"),
    **dict.fromkeys(("Rising_chirp", "Falling_chirp"), "Chirp"),
    **dict.fromkeys(("Chirp", "Whistle", "Warble", "Beep", "Buzzer"), "Tonal_sound"),
    **dict.fromkeys(("Hiss", "Whoosh", "Rattle"), "Noise"),
}
"""Class -> the class above it. Thud and cricket have none."""
LEAVES = tuple(timbre.capitalize().replace(" ", "_") for timbre in TIMBRES)
VOCABULARY = tuple(sorted({*LEAVES, *PARENTS.values()}))


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Writes the official CSV files into `folder`; returns the recordings that belong to them."""
    truth = folder / "FSD50K.ground_truth"
    for made in ("FSD50K.dev_audio", "FSD50K.eval_audio"):
        (folder / made).mkdir()
    write_csv(truth / "vocabulary.csv", ((i, label, mid(label)) for i, label in enumerate(VOCABULARY)))
    rows, clips = [], []
    for key in keys(seed, DATASET, counts):
        *_, split, index = key
        timbres, name = classes_of(key, len(TIMBRES), SHARE_OF_PAIRS), _name(seed, split, index)
        present = labels(timbres)
        rows.append((name, ",".join(present), ",".join(map(mid, present)), split))
        media = "FSD50K.eval_audio" if split == "eval" else "FSD50K.dev_audio"
        clips.append(Clip(folder / media / f"{name}.wav", _recording(key, timbres)))
    header = ("fname", "labels", "mids", "split")
    write_csv(truth / "dev.csv", sorted(row for row in rows if row[-1] != "eval"), header)
    write_csv(truth / "eval.csv", sorted(row[:-1] for row in rows if row[-1] == "eval"), header[:-1])
    return clips


def labels(timbres: Sequence[int]) -> list[str]:
    """The classes of a recording, each followed by those above it, each once."""
    present: dict[str, None] = {}
    for timbre in timbres:
        label: str | None = LEAVES[timbre]
        while label:
            present[label] = None
            label = PARENTS.get(label)
    return list(present)


def mid(label: str) -> str:
    """The class's made-up machine id; as in AudioSet, a few do not start with `/m/`."""
    number = VOCABULARY.index(label)
    return f"/t/dd91{number:02}" if number % 10 == 9 else f"/m/0fsd{number:02}"


def _name(seed: int, split: str, index: int) -> int:
    """A made-up Freesound id: no two recordings share one, and the splits' lie between each other."""
    place = 3 * index + ("train", "val", "eval").index(split)
    return 1000 + 37 * place + int(generator(seed, DATASET, "name", place).integers(37))


def _recording(key: Key, timbres: Sequence[int]) -> Timeline:
    """Mostly about a second long, a few up to `LONGEST`."""
    rng = generator(*key, "recording")
    seconds = SHORTEST * (LONGEST / SHORTEST) ** (rng.uniform() ** 4)
    happening = scene(key, tuple(combination(timbre, NEUTRAL) for timbre in timbres))
    return recording(key, rng, happening.actors, happening.room, seconds)
