"""LibriSpeech (Panayotov et al. 2015): books that are read aloud, as sound without labels to learn from.

Official files: none that is read; a folder is a split, and the transcripts are left aside.
Media: `<split>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac` at 16 kHz, up to 35 s, in `LibriSpeech` or
wherever the archives were unpacked. No speaker is in two splits.
"""

from __future__ import annotations

from typing import ClassVar

from datamodules import source


class LibriSpeech(source.Source):
    name = "librispeech"
    title = "LibriSpeech"
    citation = "Panayotov, Chen, Povey, Khudanpur. ICASSP 2015"
    holds = "292,367 utterances of up to 35 s (982 h) of books read aloud, without labels"
    licence = "CC BY 4.0"
    url = "https://www.openslr.org/12"
    folders = ("LibriSpeech", "librispeech")
    sizes: ClassVar = {
        **{"train-clean-100": 28539, "train-clean-360": 104014, "train-other-500": 148688},
        **{"dev-clean": 2703, "dev-other": 2864, "test-clean": 2620, "test-other": 2939},
    }
    splits = tuple(sizes)
    listed = False
    boards = ()

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()

    @property
    def classes(self) -> list[str]:
        """None."""
        return []

    def read_split(self, split: str) -> source.Official:
        folder = self.find_folder(split, archive=f"{split}.tar.gz")
        names = sorted(path.stem for path in folder.glob("*/*/*.flac"))
        rows = source.rows_of(folder, ("name",), [(name,) for name in names], [f"{split}/{name}" for name in names])
        rows.reject(~rows["name"].str.fullmatch(r"\d+-\d+-\d+"), "no <speaker>-<chapter>-<number>: " + rows["name"])
        return rows.official({"clip_id": rows["name"]})
