"""Speech Commands (Warden 2018): one word a recording of at most 1 s, at 16 kHz, spoken by thousands of people.

Official files: `speech_commands_v0.02/{validation,testing}_list.txt` (`bed/0a1b2c3d_nohash_0.wav`); what neither lists
is for training, which makes the names of recordings a list, too. A hash of the speaker's code, which begins a name,
says whose recordings are in which list (`which_set` of TensorFlow's `input_data.py`): no speaker is in two.
Media: `speech_commands_v0.02/<word>/<speaker>_nohash_<n>.wav`, as torchaudio has them in a folder `SpeechCommands`; in
some repacked archives `.wav.wav`. `_background_noise_` is no word.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Classification

WORDS = (
    *("backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy"),
    *("house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six"),
    *("stop", "three", "tree", "two", "up", "visual", "wow", "yes", "zero"),
)
"""The 35 of v0.02."""
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}


class SpeechCommands(source.Source):
    name = "speechcommands"
    title = "Speech Commands v0.02, 35 words"
    citation = "Warden. arXiv 1804.03209, 2018"
    holds = "105,829 recordings of at most 1 s, 35 words, one a recording"
    licence = "CC BY 4.0"
    url = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
    folders: ClassVar[tuple[str, ...]] = ("SpeechCommands", "speech_commands")
    splits = ("train", "val", "test")
    sizes: ClassVar[dict[str, int]] = {"train": 84843, "val": 9981, "test": 11005}  # as torchaudio splits it
    listed = False
    release: ClassVar[str] = "speech_commands_v0.02"
    """Its folder."""
    boards: ClassVar[tuple[Board, ...]] = (
        Board(
            "speechcommands-v2-35",
            dataset="speechcommands",
            train="train",
            split="test",
            task=Classification(),
            main="top1",
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # the lists are in the release's folder

    @property
    def classes(self) -> list[str]:
        return list(WORDS)

    def read_split(self, split: str) -> source.Official:
        rows = self.spoken(split)
        return self.named(rows, self.release, {"labels": rows.labels("word", WORDS)})

    def spoken(self, split: str) -> source.Rows:
        """The recordings of a split, whatever their words: `name`, as `bed/0a1b2c3d_nohash_0`, and `word`."""
        folder = self.find_folder(self.release, archive=f"{self.release}.tar.gz")
        lists = {each: source.read_rows(self._list(folder, each), ("name",)) for each in LISTS}
        if split in LISTS:
            rows = lists[split]
            rows["name"] = rows["name"].str.removesuffix(".wav")
        else:
            listed = {name.removesuffix(".wav") for each in lists.values() for name in each["name"]}
            words = sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] not in "._")
            rows = recordings(folder, [name for word in words for name in names_in(word) if name not in listed])
        rows["word"] = rows["name"].str.partition("/")[0]
        return rows

    def _list(self, folder: Path, split: str) -> Path:
        if (path := folder / LISTS[split]).is_file():
            return path
        raise source.DataError(f"{self.title}: there is no {LISTS[split]} in {folder}; unpack the whole archive there")

    def named(self, rows: source.Rows, folder: str, clips: dict) -> source.Official:
        """`rows.official` of recordings below a folder of the archives, called by their `name`."""
        stem = folder + "/" + rows["name"]
        return rows.official({"clip_id": rows["name"], **clips}, stems=[stem, stem + ".wav"])


def names_in(folder: Path) -> list[str]:
    """`<folder>/<name>` of the recordings in a folder, sorted."""
    stems = sorted({path.stem.removesuffix(".wav") for path in folder.iterdir() if path.suffix in (".wav", ".flac")})
    return [f"{folder.name}/{stem}" for stem in stems]


def recordings(folder: Path, names: list[str]) -> source.Rows:
    """Rows of the names of files below a folder."""
    return source.rows_of(folder, ("name",), [(name,) for name in names], [f"{folder.name}/{name}" for name in names])
