"""VoxCeleb1 (Nagrani, Chung and Zisserman 2017) for identification: which of 1,251 speakers speaks, one an utterance.

Official files: `iden_split.txt`, without a header (`1 id10003/na8-QEFmj44/00003.wav`: 1 is training, 2 validation, 3
testing). Each speaker is in all three, each video in one. The archives `dev` and `test` are of another split, for
verification, and both are needed.
Media: `<speaker>/<video>/<n>.wav` at 16 kHz below any folder. Classes are the speakers' sorted codes.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Classification

LIST = "iden_split.txt"
SPLITS = {"train": "1", "val": "2", "test": "3"}
PLACE = r"^([^/]+)/([^/]+)/([^/]+)\.\w+$"
SPEAKERS = 1251


class VoxCeleb1(source.Source):
    name = "voxceleb1"
    title = "VoxCeleb1"
    citation = "Nagrani, Chung, Zisserman. Interspeech 2017, arXiv 1706.08612"
    holds = "153,516 utterances of 4 s or more from interviews on YouTube, 1,251 speakers, one an utterance"
    licence = "CC BY 4.0; access by form"
    url = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html"
    folders = ("VoxCeleb1", "voxceleb1", "vox1")
    splits = tuple(SPLITS)
    sizes: ClassVar = {"train": 138361, "val": 6904, "test": 8251}
    boards = (Board("voxceleb1", dataset="voxceleb1", train="train", split="test", task=Classification(), main="top1"),)

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return (LIST,)

    def _rows(self) -> source.Rows:
        """With the parts of each place: speaker, video, utterance."""
        rows = source.read_words(self.find(LIST), ("split", "place"))
        parts = rows["place"].str.extract(PLACE)
        rows.reject(parts[0].isna(), "no speaker/video/utterance.wav: " + rows["place"])
        for number, name in enumerate(("speaker", "video", "utterance")):
            rows[name] = parts[number]
        return rows

    @cached_property
    def classes(self) -> list[str]:
        rows = self._rows()
        found = sorted(set(rows["speaker"].dropna()))
        if not self.is_sample and len(found) != SPEAKERS:
            raise source.DataError(f"{rows.path}: expected {SPEAKERS} speakers; got {len(found)}")
        return found

    def read_split(self, split: str) -> source.Official:
        rows = self._rows()
        rows.keep_split("split", SPLITS[split], tuple(SPLITS.values()))
        video_id = rows["speaker"] + "/" + rows["video"]
        clip_id = video_id + "/" + rows["utterance"]
        labels = rows.labels("speaker", self.classes)
        return rows.official({"clip_id": clip_id, "video_id": video_id, "labels": labels}, stems=[clip_id])
