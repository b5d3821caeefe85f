"""VGGSound (Chen et al. 2020): 309 classes, one a clip, of 10 s YouTube clips where the sound's source is seen.

Official files: `vggsound.csv` (no header: id, start, label, split) and `stat.csv` (label, count, category).
Media: one file a clip, anywhere below the folder, named `<id>_<start:06d>` (official) or
`<id>_<start_ms>_<end_ms>` (SparseSync, Synchformer), or whole videos as `<id>`.
"""

from __future__ import annotations

import csv
from functools import cached_property
from typing import ClassVar

from datamodules.source import DataError, Official, Source, milliseconds, padded, read_rows
from datamodules.types import Board

CLIP_SECONDS = 10


class VGGSound(Source):
    name = "vggsound"
    title = "VGGSound"
    folders = ("VGGSound", "vggsound", "VGG-Sound")
    splits = ("train", "test")
    sizes: ClassVar = {"test": 15446}  # measured on the official test.csv; train's 183,730 is not verified
    media = "auto"
    boards = (
        Board("vggsound", dataset="vggsound", train="train", split="test", task="classification", main="top1"),
        # CAV-MAE's retrieval takes 5 clips a class too, but by a list of its own (cav-mae `retrieval.py`); here they
        # are the first five by id, so that everybody's are the same.
        *(
            Board(
                f"vggsound-{query}2{gallery}",
                dataset="vggsound",
                train="none",
                split="test",
                task="retrieval",
                main="R@1",
                query=query,
                gallery=gallery,
                per_class=5,
            )
            for query, gallery in ("av", "va")
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("vggsound.csv", "stat.csv")

    @cached_property
    def classes(self) -> list[str]:
        """The class index is the position in the sorted labels of `stat.csv` (official `eval.py`)."""
        path = self.find("stat.csv")
        with path.open(encoding="utf-8-sig", newline="") as file:
            labels = sorted(row[0] for row in csv.reader(file) if row)
        if not labels or len(set(labels)) != len(labels):
            raise DataError(f"{path}: expected one row a class, each label once; got {len(labels)} rows")
        return labels

    def read_split(self, split: str) -> Official:
        rows = read_rows(self.find("vggsound.csv"), ("video_id", "start_seconds", "label", "split"))
        video_id, start = rows["video_id"], rows.numbers("start_seconds")
        rows.reject(start != start.round(), "start_seconds is not whole: " + rows["start_seconds"])
        rows.reject(~rows["split"].isin(self.splits), "the split is none of train, test: " + rows["split"])
        labels = rows.labels("label", self.classes)
        rows.belongs_elsewhere(rows["split"].isin(self.splits) & (rows["split"] != split))
        clip_id, end = video_id + "_" + padded(start), start + CLIP_SECONDS
        return rows.official(
            {"clip_id": clip_id, "video_id": video_id, "start": start, "end": end, "labels": labels},
            stems=[clip_id, video_id + "_" + milliseconds(start) + "_" + milliseconds(end), video_id],
        )
