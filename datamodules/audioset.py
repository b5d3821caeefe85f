"""AudioSet (Gemmeke et al. 2017): 527 classes of sound in 10 s YouTube clips, several labels a clip.

Official files: `balanced_train_segments.csv`, `unbalanced_train_segments.csv`, `eval_segments.csv`,
`class_labels_indices.csv`. Media: one file a clip, anywhere below the folder, named as PANNs
(`Y<id>.wav`), AST and CAV-MAE (`<id>.flac`, `<id>_<start>.flac`) or downloaders
(`<id>_<start_ms>_<end_ms>.mp4`) name them.
"""

from __future__ import annotations

import csv
from functools import cached_property
from typing import Any, ClassVar

from datamodules.source import DataError, Official, Source, read_clips
from datamodules.types import Board

SEGMENT_FILES = {
    "balanced": "balanced_train_segments.csv",
    "unbalanced": "unbalanced_train_segments.csv",
    "eval": "eval_segments.csv",
}


class AudioSet(Source):
    name = "audioset"
    title = "AudioSet"
    folders = ("AudioSet", "audioset")
    splits = tuple(SEGMENT_FILES)
    multilabel = True
    defaults: ClassVar = {"inputs": {"audio": {"mean": -4.2677393, "std": 4.5689974}}}  # AST, AudioMAE dataset.py
    boards = (
        Board("audioset-20k", dataset="audioset", train="balanced", split="eval", task="tagging", main="mAP"),
        Board("audioset-2m", dataset="audioset", train="unbalanced+balanced", split="eval", task="tagging", main="mAP"),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("class_labels_indices.csv", *SEGMENT_FILES.values())

    @cached_property
    def _class_rows(self) -> list[dict[str, str]]:
        path = self.find("class_labels_indices.csv")
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or set(rows[0]) != {"index", "mid", "display_name"}:
            raise DataError(f"{path}: expected the header index,mid,display_name and one row a class")
        if [r["index"] for r in rows] != [str(i) for i in range(len(rows))]:
            raise DataError(f"{path}: the indices are not 0..{len(rows) - 1} in order")
        return rows

    @cached_property
    def classes(self) -> list[str]:
        return [row["display_name"] for row in self._class_rows]

    def read_split(self, split: str) -> Official:
        index_of = {row["mid"]: i for i, row in enumerate(self._class_rows)}

        def parse(row: list[str]) -> dict[str, Any]:
            video_id, start, end = row[0], float(row[1]), float(row[2])
            unknown = [mid for mid in row[3].split(",") if mid not in index_of]
            if unknown:
                raise ValueError(f"unknown label {unknown[0]!r}")
            start_ms, end_ms = round(start * 1000), round(end * 1000)
            return {
                "clip_id": f"{video_id}_{start_ms}",
                "video_id": video_id,
                "start": start,
                "end": end,
                "labels": sorted(index_of[mid] for mid in row[3].split(",")),
                "stems": (
                    f"Y{video_id}",
                    f"{video_id}_{start_ms}_{end_ms}",
                    f"{video_id}_{start_ms // 1000}",
                    video_id,
                ),
            }

        return read_clips(self.find(SEGMENT_FILES[split]), fields=4, parse=parse)
