"""VGGSound (Chen et al. 2020): 309 classes, one a clip, of 10 s YouTube clips where the sound's source is seen.

Official files, all without a header: `train.csv` and `test.csv` (file name, label), or instead of a missing
one `vggsound.csv` (id, start, label, split), of which copies circulate that list more; and `stat.csv` (label, count,
category).
Media: one file a clip, anywhere below the folder, named `<id>_<start:06d>` (official) or
`<id>_<start_ms>_<end_ms>` (SparseSync, Synchformer), or whole videos as `<id>`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from datamodules import source
from datamodules.boards import Board, Classification, ClassRetrieval, graded_boards, retrieval_boards

if TYPE_CHECKING:
    import pandas as pd

CLIP_SECONDS = 10


class VGGSound(source.Source):
    name = "vggsound"
    title = "VGGSound"
    citation = "Chen, Xie, Vedaldi, Zisserman. ICASSP 2020, arXiv 2004.14368"
    holds = "about 200,000 clips of 10 s, 309 classes, one a clip"
    licence = "CC BY 4.0"
    url = "https://github.com/hche11/VGGSound"
    folders = ("VGGSound", "vggsound", "VGG-Sound")
    splits = ("train", "test")
    sizes: ClassVar = {"test": 15446}  # measured on the official test.csv; train's 183,730 is not verified
    media = "auto"
    version = 2  # a split's own list is read before vggsound.csv
    boards = (
        Board("vggsound", dataset="vggsound", train="train", split="test", task=Classification(), main="top1"),
        # CAV-MAE's retrieval takes 5 clips a class too, but by a list of its own (cav-mae `retrieval.py`); here they
        # are the first five by id, so that everybody's are the same.
        *retrieval_boards(
            "vggsound",
            ("av", "va"),
            dataset="vggsound",
            train="none",
            split="test",
            per_class=5,
            version=2,  # ties; the clips are selected from the official list
        ),
        # As AVE-Net is measured on AudioSet-Instruments; these classes are in no tree.
        *graded_boards(
            "vggsound-class",
            ("vv", "va", "av", "aa"),
            ClassRetrieval,
            "class_nDCG@30",
            dataset="vggsound",
            train="train",
            split="test",
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("stat.csv",)  # and the split's own list, or vggsound.csv

    @cached_property
    def classes(self) -> list[str]:
        """The class index is the position in the sorted labels of `stat.csv` (official `eval.py`)."""
        rows = source.read_rows(self.find("stat.csv"), ("label", "count", "category"))
        labels = sorted(rows["label"])
        if not labels or rows.malformed or len(set(labels)) != len(labels):
            raise source.DataError(f"{rows.path}: expected one row a class, each label once; got {len(labels)} rows")
        return labels

    def read_split(self, split: str) -> source.Official:
        rows, video_id, start = self._rows(split)
        rows.reject(start != start.round(), "the start is not whole")
        labels = rows.labels("label", self.classes)
        clip_id, end = video_id + "_" + source.padded(start), start + CLIP_SECONDS
        return rows.official(
            {"clip_id": clip_id, "video_id": video_id, "start": start, "end": end, "labels": labels},
            stems=[video_id],
            timed_stems=[clip_id, video_id + "_" + source.milliseconds(start) + "_" + source.milliseconds(end)],
        )

    def _rows(self, split: str) -> tuple[source.Rows, pd.Series, pd.Series]:
        """The rows of a split, their video ids and starts."""
        path = self.find(f"{split}.csv", "vggsound.csv")
        if path.name == "vggsound.csv":
            rows = source.read_rows(path, ("video_id", "start_seconds", "label", "split"))
            start = rows.numbers("start_seconds")
            rows.keep_split("split", split, self.splits)
            return rows, rows["video_id"], start
        rows = source.read_rows(path, ("file", "label"))
        named = rows["file"].str.extract(r"^(?P<video>.+)_(?P<start>\d{6})\.mp4$")
        rows.reject(named["video"].isna(), "no file name like <id>_<start:06d>.mp4: " + rows["file"])
        return rows, named["video"].fillna(""), named["start"].astype("float64")
