"""ESC-50 and ESC-10 (Piczak 2015): 5 s recordings of 50 (10) classes of environmental sound, in five folds.

Official files: `meta/esc50.csv` (filename, fold, target, category, esc10, src_file, take). Media: `audio/<filename>`,
or the same name with the suffix of another container. The recordings of one freesound clip stay in one fold.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from datamodules import source
from datamodules.boards import Board, Classification, and_linear

if TYPE_CHECKING:
    import pandas as pd

FOLDS = ("fold1", "fold2", "fold3", "fold4", "fold5")
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


class ESC50(source.Source):
    name = "esc50"
    title = "ESC-50"
    citation = "Piczak. ACM Multimedia 2015"
    holds = "2,000 recordings of 5 s, 50 classes of environmental sound, one a recording"
    licence = "CC BY-NC 3.0"
    url = "https://github.com/karolpiczak/ESC-50"
    folders = ("ESC-50", "esc50", "ESC-50-master")
    splits = FOLDS
    sizes: ClassVar = dict.fromkeys(FOLDS, 400)
    # AST's ESC-50 recipe. 512 frames cover the 5 s.
    defaults: ClassVar = {"inputs": {"audio": {"frames": 512, "mean": -6.6268077, "std": 5.358466}}}
    boards = and_linear(
        Board("esc50", dataset="esc50", train="rest", split="folds", task=Classification(), main="top1", folds=5)
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("esc50.csv",)

    def _rows(self) -> source.Rows:
        return source.read_rows_by_header(self.find("meta/esc50.csv", "esc50.csv"), COLUMNS)

    @cached_property
    def classes(self) -> list[str]:
        """Categories in the order of their targets."""
        rows = self._rows()
        pairs = rows.numbers("target").to_frame("target").assign(category=rows["category"])
        pairs = pairs[self._of_this_set(rows).to_numpy()].dropna().drop_duplicates().sort_values("target")
        if pairs.empty or pairs["target"].duplicated().any() or pairs["category"].duplicated().any():
            raise source.DataError(f"{rows.path}: expected one category for each target; got {len(pairs)} pairs")
        return pairs["category"].tolist()

    def _of_this_set(self, rows: source.Rows) -> pd.Series:
        return rows["esc10"].notna()  # all

    def read_split(self, split: str) -> source.Official:
        rows = self._rows()
        stem = rows["filename"].str.rsplit(".", n=1).str[0]
        fold, marks = "fold" + rows["fold"], rows["esc10"].str.lower()
        rows.reject(~fold.isin(FOLDS), "the fold is none of 1 to 5: " + rows["fold"])
        rows.reject(~marks.isin(("true", "false")), "esc10 is neither True nor False: " + rows["esc10"])
        rows.numbers("target")
        labels = rows.labels("category", self.classes)
        rows.belongs_elsewhere(fold.isin(FOLDS) & (fold != split))
        rows.belongs_elsewhere(marks.isin(("true", "false")) & ~self._of_this_set(rows))
        return rows.official({"clip_id": stem, "video_id": rows["src_file"], "labels": labels}, stems=[stem])


class ESC10(ESC50):
    """The ten classes that are licensed CC BY, on the same disk."""

    name = "esc10"
    title = "ESC-10"
    holds = "400 recordings of ESC-50, 10 classes"
    licence = "CC BY"
    sizes: ClassVar = dict.fromkeys(FOLDS, 80)
    boards = (
        Board("esc10", dataset="esc10", train="rest", split="folds", task=Classification(), main="top1", folds=5),
    )

    def _of_this_set(self, rows: source.Rows) -> pd.Series:
        return rows["esc10"].str.lower() == "true"
