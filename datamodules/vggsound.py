"""VGGSound (Chen et al. 2020): 309 classes, one a clip, of 10 s YouTube clips where the sound's source is seen.

Official files: `vggsound.csv` (no header: id, start, label, split) and `stat.csv` (label, count, category).
Media: one file a clip, anywhere below the folder, named `<id>_<start:06d>` (official) or
`<id>_<start_ms>_<end_ms>` (SparseSync, Synchformer).
"""

from __future__ import annotations

import csv
from functools import cached_property
from typing import Any

from datamodules.source import DataError, Official, Source, read_clips
from datamodules.types import Board

CLIP_SECONDS = 10


class VGGSound(Source):
    name = "vggsound"
    title = "VGGSound"
    folders = ("VGGSound", "vggsound", "VGG-Sound")
    splits = ("train", "test")
    multilabel = False
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
        with path.open(encoding="utf-8", newline="") as file:
            labels = sorted(row[0] for row in csv.reader(file) if row)
        if not labels or len(set(labels)) != len(labels):
            raise DataError(f"{path}: expected one row a class, each label once; got {len(labels)} rows")
        return labels

    def read_split(self, split: str) -> Official:
        index_of = {label: i for i, label in enumerate(self.classes)}

        def parse(row: list[str]) -> dict[str, Any] | None:
            video_id, start, label, row_split = row[0], int(row[1]), row[2], row[3]
            if row_split not in self.splits:
                raise ValueError(f"the split is {row_split!r}, not {' or '.join(self.splits)}")
            if label not in index_of:
                raise ValueError(f"unknown label {label!r}")
            if row_split != split:
                return None
            clip_id, end = f"{video_id}_{start:06d}", start + CLIP_SECONDS
            return {
                "clip_id": clip_id,
                "video_id": video_id,
                "start": float(start),
                "end": float(end),
                "labels": [index_of[label]],
                "stems": (clip_id, f"{video_id}_{start * 1000}_{end * 1000}"),
            }

        return read_clips(self.find("vggsound.csv"), fields=4, parse=parse)
