"""Moments in Time (Monfort et al. 2019): clips of 3 s, of what people, animals or things do, one class a clip.

Official files: `trainingSet.csv` and `validationSet.csv`, without a header (file, label, how many people agree, how
many do not); `moments_categories.txt` (label, index).
Media: `{training,validation}/<label>/<name>.mp4`, labels spelt as in the lists, with `+` for blanks
(`adult+female+singing`). Many have no sound.

The first release has 339 classes, the second 305, with the same files: what is learnt of one is not measured on the
other. Of the first, public copies have 791,297 training clips (PolyViT) of 802,264.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Classification

LISTS = {"train": "trainingSet.csv", "val": "validationSet.csv"}
FOLDERS = {"train": "training", "val": "validation"}
CATEGORIES = "moments_categories.txt"


class Moments(source.Source):
    name = "moments"
    title = "Moments in Time"
    citation = "Monfort et al. TPAMI 2019, arXiv 1801.03150"
    holds = "about 836,000 clips of 3 s, 339 classes of what happens, one a clip"
    licence = "research only; access by form"
    url = "http://moments.csail.mit.edu/"
    folders: ClassVar[tuple[str, ...]] = ("Moments_in_Time", "Moments_in_Time_256x256_30fps", "Moments_in_Time_Raw")
    splits = tuple(LISTS)
    sizes: ClassVar = {"val": 33900}
    number: ClassVar[int] = 339
    """Of classes."""
    boards: ClassVar[tuple[Board, ...]] = (
        Board("moments", dataset="moments", train="train", split="val", task=Classification(), main="top1"),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return (CATEGORIES,)

    @cached_property
    def classes(self) -> list[str]:
        """In the order of their indices, whatever that of the lines."""
        rows = source.read_rows(self.find(CATEGORIES), ("label", "index"))
        index = rows.numbers("index")
        if rows.malformed or sorted(index) != list(range(len(rows))) or rows["label"].duplicated().any():
            raise source.DataError(f"{rows.path}: expected a label and its index a line, from 0 on and each once")
        if not self.is_sample and len(rows) != self.number:
            raise source.DataError(f"{rows.path}: expected {self.number} classes; got {len(rows)}: another release?")
        return rows["label"].iloc[index.argsort()].tolist()

    @property
    def class_texts(self) -> list[str]:
        return [name.replace("+", " ") for name in self.classes]

    def read_split(self, split: str) -> source.Official:
        rows = source.read_rows(self.find(LISTS[split]), ("file", "label", "agree", "disagree"))
        name = rows["file"].str.replace(r"\.\w+$", "", regex=True)
        labels = rows.labels("label", self.classes)
        return rows.official({"clip_id": name, "labels": labels}, stems=[f"{FOLDERS[split]}/" + name, name])


class Moments2(Moments):
    """The release of 305 classes."""

    name = "moments2"
    title = "Moments in Time, second release"
    holds = "about 758,000 clips of 3 s, 305 classes of what happens, one a clip"
    folders = ("Moments_in_Time_Raw_v2", "moments_v2", "Moments_in_Time")
    sizes: ClassVar = {"val": 30500}
    number = 305
    boards = (Board("moments-v2", dataset="moments2", train="train", split="val", task=Classification(), main="top1"),)
