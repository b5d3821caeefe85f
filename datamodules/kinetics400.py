"""Kinetics (Kay et al. 2017): clips of 10 s from YouTube, of 400 classes of what people do, one a clip; and
Kinetics-Sounds (Arandjelović and Zisserman 2017), the classes of it that can be heard as well as seen.

Official files, as CVDF gives them out: `train.csv`, `val.csv` and `test.csv` (label, youtube_id, time_start, time_end,
split, in some releases is_cc), labels quoted where they must be; columns are read by their names. Older test lists have
no labels; the split is called `val`, `validate` or `validation`. Classes are the sorted labels of the training list.
Media: one file a clip, `<id>_<start:06d>_<end:06d>`, in any folders, or cut clips called as their id alone. Copies
spell the folders of classes in three ways (blanks; `_` without quotes and brackets; `_` without double quotes), so the
label is the list's.

What of Kinetics there is differs from copy to copy: public ones have 240,436 / 19,796 clips (mmaction2), XKD's
validation list 19,839, PolyViT's 214,834 / 17,637. Of Kinetics-Sounds XKD lists 22,713 / 1,593 clips of 32 classes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from datamodules import source
from datamodules.boards import Board, Classification, and_linear

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("youtube_id", "time_start", "time_end")
CALLED = {"val": ("val", "validate", "validation")}
"""Split -> what the column `split` says."""


def _boards(name: str) -> tuple[Board, ...]:
    return and_linear(Board(name, dataset=name, train="train", split="val", task=Classification(), main="top1"))


class Kinetics400(source.Source):
    name = "kinetics400"
    title = "Kinetics-400"
    citation = "Kay et al. arXiv 1705.06950, 2017"
    holds = "about 300,000 clips of 10 s from YouTube, 400 classes of what people do, one a clip"
    licence = "CC BY 4.0"
    url = "https://github.com/cvdfoundation/kinetics-dataset"
    folders: ClassVar[tuple[str, ...]] = ("Kinetics-400", "kinetics400", "k400")
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    number: ClassVar[int] = 400
    """Of classes."""
    boards: ClassVar[tuple[Board, ...]] = _boards("kinetics400")

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # a list has several names

    def _rows(self, split: str) -> source.Rows:
        names = (f"{split}.csv", *(f"{called}.csv" for called in CALLED.get(split, ())))
        copies = [f"kinetics{between}{self.number}_{name}" for name in names for between in ("-", "_", "")]
        return source.read_rows_by_header(self.find(*names, *copies), COLUMNS, optional=("label", "split"))

    @cached_property
    def _labels(self) -> list[str]:
        """All labels of the training list, sorted."""
        rows = self._rows("train")
        found = sorted(set(rows["label"])) if "label" in rows else []
        if not self.is_sample and len(found) != self.number:
            raise source.DataError(f"{rows.path}: expected {self.number} labels; got {len(found)}")
        return found

    @property
    def classes(self) -> list[str]:
        return self._labels

    def read_split(self, split: str) -> source.Official:
        rows = self._rows(split)
        if "split" in rows:
            rows.reject(~rows["split"].isin(CALLED.get(split, (split,))), f"not of {split}: " + rows["split"])
        video_id, start, end = rows["youtube_id"], rows.numbers("time_start"), rows.numbers("time_end")
        rows.reject((start != start.round()) | (end != end.round()), "a time is not whole")
        clip_id = video_id + "_" + source.padded(start) + "_" + source.padded(end)
        clips = {"clip_id": clip_id, "video_id": video_id, "start": start, "end": end}
        if "label" in rows:
            clips["labels"] = self._label(rows)
        elif split != "test":
            raise source.DataError(f"{rows.path}: no column label")
        return rows.official(clips, stems=[video_id], timed_stems=[clip_id])

    def _label(self, rows: source.Rows) -> pd.Series:
        return rows.labels("label", self._labels)


HEARD = (
    *("blowing nose", "blowing out candles", "bowling", "chopping wood", "dribbling basketball", "laughing"),
    *("mowing lawn", "playing accordion", "playing bagpipes", "playing bass guitar", "playing clarinet"),
    *("playing drums", "playing guitar", "playing harmonica", "playing keyboard", "playing organ", "playing piano"),
    *("playing saxophone", "playing trombone", "playing trumpet", "playing violin", "playing xylophone"),
    *("ripping paper", "shoveling snow", "shuffling cards", "singing", "stomping grapes", "strumming guitar"),
    *("tap dancing", "tapping guitar", "tapping pen", "tickling"),
)
"""The 32 classes of XKD, CrissCross and SeLaVi: measured, the same list in two repositories."""
OLDER = {
    "blowing out": "blowing out candles",
    "dribbling ball": "dribbling basketball",
    "fingerpicking": "strumming guitar",
    "mowing the lawn by pushing lawnmower": "mowing lawn",
    "stomping": "stomping grapes",
}
"""What the 34 classes of the paper's appendix were called before the release, as two readers quote them."""
NEVER_RELEASED = ("patting", "typing")
"""The two of these of which Kinetics-400 as it was released has no clip."""


class KineticsSounds(Kinetics400):
    """On the same disk."""

    name = "kinetics_sounds"
    title = "Kinetics-Sounds"
    splits = ("train", "val")
    citation = "Arandjelović, Zisserman. ICCV 2017, arXiv 1705.08168"
    holds = "about 24,300 clips of Kinetics-400, its 32 classes that can be heard"
    heard: ClassVar[tuple[str, ...]] = HEARD
    boards = _boards("kinetics_sounds")

    @property
    def classes(self) -> list[str]:
        return list(self.heard)

    def _label(self, rows: source.Rows) -> pd.Series:
        """Other classes of Kinetics are no faults."""
        rows["heard"] = rows["label"].replace(OLDER)
        rows.belongs_elsewhere(rows["label"].isin(self._labels) & ~rows["heard"].isin(self.heard))
        return rows.labels("heard", self.heard)


class KineticsSounds31(KineticsSounds):
    """Without strumming guitar: measured on the 17,396 ids of OGM-GE's lists, whose numbers are in this order."""

    name = "kinetics_sounds31"
    title = "Kinetics-Sounds, 31 classes"
    holds = "Kinetics-Sounds without strumming guitar, as OGM-GE and those who compare with it have it"
    heard = tuple(name for name in HEARD if name != "strumming guitar")
    boards = _boards("kinetics_sounds31")


class KineticsSounds34(KineticsSounds):
    """The paper's, of a Kinetics before its release."""

    name = "kinetics_sounds34"
    title = "Kinetics-Sounds, 34 classes"
    holds = "the paper's 34 classes, of two of which the released Kinetics-400 has no clip"
    heard = tuple(sorted((*HEARD, *NEVER_RELEASED)))
    boards = _boards("kinetics_sounds34")
