"""Speech Commands v0.01 as the task of 12 classes (Warden 2018, section 7): ten words, what is none of them, silence.

Official files: the lists of v0.01, as of Speech Commands; the test recordings are an archive of their own, in which a
folder is a class. The rest is made as TensorFlow's `input_data.py` makes it: to the n recordings of the ten words that
a split has come 0.1 n of the other twenty words and 0.1 n of silence, both rounded up.
Media: `speech_commands_v0.01/`, as of Speech Commands, and `speech_commands_test_set_v0.01/<class>/<name>.wav` beside
it. Silence is cut out of the long recordings of `_background_noise_`.

What TensorFlow draws is fixed here: which other words, by a hash of their names; where silence lies, evenly over the
first minute of the recordings, of which `running_tap` is for validation and the others for training (as in TFDS).
TensorFlow makes each silence quieter, anew at each step, by a factor between 0 and 1; that is left to the method.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from datamodules import source
from datamodules.boards import Board, Classification
from datamodules.speechcommands import WORDS, SpeechCommands, names_in, recordings

if TYPE_CHECKING:
    import pandas as pd

SILENCE, UNKNOWN, NOISE = "_silence_", "_unknown_", "_background_noise_"
WANTED = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (SILENCE, UNKNOWN, *WANTED)
SHARE = 0.1
"""Of the other words, and of silence, in relation to the ten words."""
NOISE_SECONDS = 60.0
"""Of each recording of noise; the shortest official one lasts so long."""
OF_VALIDATION = f"{NOISE}/running_tap"


class SpeechCommands12(SpeechCommands):
    name = "speechcommands12"
    title = "Speech Commands v0.01, 12 classes"
    holds = "28,420 recordings of 1 s, ten words, other words and silence, one a recording"
    url = "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz"
    folders = ("SpeechCommands-v1", "SpeechCommands", "speech_commands")
    sizes: ClassVar = {"train": 22246, "val": 3093, "test": 3081}  # n = 18,538, 2,577, 2,567
    media = "videos"
    release = "speech_commands_v0.01"
    tested: ClassVar[str] = "speech_commands_test_set_v0.01"
    boards = (
        Board(
            "speechcommands-v1-12",
            dataset="speechcommands12",
            train="train",
            split="test",
            task=Classification(),
            main="top1",
        ),
    )

    @property
    def classes(self) -> list[str]:
        return list(CLASSES)

    @property
    def class_texts(self) -> list[str]:
        return [name.strip("_") for name in CLASSES]

    def read_split(self, split: str) -> source.Official:
        if split == "test":
            folder = self.find_folder(self.tested, archive=f"{self.tested}.tar.gz")
            classes = sorted(each for each in folder.iterdir() if each.is_dir())
            rows = recordings(folder, [name for each in classes for name in names_in(each)])
            rows["word"] = rows["name"].str.partition("/")[0]
            return self.named(rows, self.tested, {"labels": rows.labels("word", CLASSES)})
        rows = self.spoken(split)
        wanted = rows["word"].isin(WANTED)
        others = rows["word"].isin(WORDS) & ~wanted
        count = math.ceil(SHARE * wanted.sum())
        rows.belongs_elsewhere(others & ~_first(rows["name"][others], count).reindex(others.index, fill_value=False))
        rows["class"] = rows["word"].where(~others, UNKNOWN)
        words = self.named(rows, self.release, {"labels": rows.labels("class", CLASSES)})
        import pandas as pd

        silence = self._silence(split, count)
        return source.Official(
            pd.concat([words.clips, silence.clips], ignore_index=True),
            [pd.concat(pair, ignore_index=True) for pair in zip(words.stems, silence.stems, strict=True)],
            [*words.malformed, *silence.malformed],
        )

    def _silence(self, split: str, count: int) -> source.Official:
        """So many seconds of noise, as evenly from each recording as can be."""
        folder = self.find_folder(f"{self.release}/{NOISE}", archive=f"{self.release}.tar.gz")
        files = [name for name in names_in(folder) if (name == OF_VALIDATION) == (split == "val")]
        if not files:
            raise source.DataError(f"{self.title}: no recording of noise for {split} in {folder}; unpack the archive")
        import numpy as np

        windows = [
            (name, start)
            for place, name in enumerate(files)
            for start in np.linspace(0, NOISE_SECONDS - 1, len(range(place, count, len(files)))).round(3)
        ]
        rows = source.rows_of(folder, ("name", "start"), windows, [f"{name} at {start} s" for name, start in windows])
        start = rows.numbers("start")
        clips = {
            "clip_id": rows["name"] + "_" + source.milliseconds(start),
            "video_id": rows["name"],
            "start": start,
            "end": start + 1,
            "labels": source.class_lists([[CLASSES.index(SILENCE)]] * len(rows)),
        }
        stem = f"{self.release}/" + rows["name"]
        return rows.official(clips, stems=[stem, stem])


def _first(names: pd.Series, count: int) -> pd.Series:
    """Whether a name is one of the first, in the order of their hashes."""
    from datamodules.keyed import stable_hash  # imports torch

    place = names.map(lambda name: stable_hash("unknown", name)).rank(method="first")
    return place <= count
