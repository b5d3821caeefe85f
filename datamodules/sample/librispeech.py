"""LibriSpeech's official layout: speakers who read, in FLAC, with transcripts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from datamodules.sample.media import Clip
from datamodules.sample.official import write_lines
from datamodules.sample.spoken import saying, voice_of
from datamodules.sample.world import generator, keys

DATASET = "librispeech"
FOLDER = "LibriSpeech"
COUNTS = {
    **{"train-clean-100": 64, "train-clean-360": 16, "train-other-500": 16},
    **dict.fromkeys(("dev-clean", "dev-other", "test-clean", "test-other"), 4),
}
SPEAKERS = 24
UTTERANCES = 4
"""Of a chapter."""


def lay_out(folder: Path, seed: int, counts: Mapping[str, int]) -> list[Clip]:
    """Makes the folders, with transcripts; returns the utterances that belong in them, which are listed nowhere."""
    transcripts: dict[Path, list[str]] = {}
    clips = []
    for key in keys(seed, DATASET, counts):
        split, index = key[2:]
        chapter, utterance = divmod(index, UTTERANCES)
        # Each split has speakers of its own.
        code = 100 * (1 + list(COUNTS).index(split)) + chapter % SPEAKERS
        name = f"{code}-{100_000 + chapter}"
        where = folder / split / str(code) / str(100_000 + chapter)
        where.mkdir(parents=True, exist_ok=True)
        path = where / f"{name}-{utterance:04}.flac"
        path.touch()
        said = saying(key, float(generator(*key, "length").uniform(1.0, 3.0)), voice_of(code % SPEAKERS, SPEAKERS))
        transcripts.setdefault(where / f"{name}.trans.txt", []).append(
            f"{path.stem} {' '.join(word.upper() for _, word in said.words)}"
        )
        clips.append(Clip(path, said))
    for file, lines in transcripts.items():
        write_lines(file, lines)
    return clips
