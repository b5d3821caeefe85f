"""YouCook2 (Zhou et al. 2018): 2,000 cooking videos of 89 recipe types, their steps timed and described.

Official files: `youcookii_annotations_trainval.json` (segments with sentences),
`youcookii_annotations_test_segments_only.json` (without) and MIL-NCE's `validation_youcook.csv`, the retrieval set of
record: the validation segments whose videos are not in HowTo100M; a split needs only its own. `label_foodtype.csv`
(type, dish) names the classes. Media: whole videos, `<id>.{mp4,mkv,webm}` in any folder shape. A clip's class is its
recipe type.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from datamodules import source
from datamodules.boards import retrieval_boards

TRAINVAL = ("youcookii_annotations_trainval.json", "youcookii_annotations_train_val.json")
TEST = ("youcookii_annotations_test_segments_only.json", "youcookii_annotations_test_segments.json")
RETRIEVAL = ("validation_youcook.csv",)
DIRECTIONS = (("t", "v"), ("v", "t"), ("a", "v"), ("v", "a"), ("t", "a"), ("t", "av"), ("at", "v"))
"""Of retrieval, as MIL-NCE, AVLnet, AVLnet-Text and Everything at Once report it: (query, gallery)."""
COLUMNS = ("video_id", "start", "end", "text", "task")
SHAPE = 'the JSON of YouCook2\'s annotations, {"database": {video: …}}'
SUBSETS = {"train": "training", "val": "validation", "test": "testing"}
BOARDS: dict[str, Any] = {
    "dataset": "youcook2",
    "train": "none or train",
    "split": "retrieval",
    "views": 4,  # MIL-NCE's default of `num_windows_test`; its README's commands use 10
    "version": 2,  # ties
}


class YouCook2(source.Source):
    name = "youcook2"
    title = "YouCook2"
    citation = "Zhou, Xu, Corso. AAAI 2018, arXiv 1703.09788"
    holds = "2,000 cooking videos of 89 recipes, their steps timed and described"
    url = "http://youcook2.eecs.umich.edu"
    folders = ("YouCook2", "YouCookII", "youcook2", "youcook")
    splits = ("train", "val", "test", "retrieval")
    sizes: ClassVar = {"retrieval": 3350}  # measured on the csv
    nested = frozenset({("retrieval", "val")})
    media = "videos"
    boards = (
        *retrieval_boards("youcook2", DIRECTIONS, **BOARDS),
        # MCN's full-video retrieval, by all captions of a video
        *retrieval_boards("youcook2-video", (("t", "av"),), unit="video", **BOARDS),
        # Everything at Once's 3,350 (`youcook_dataset.py`)
        *retrieval_boards("youcook2", (("t", "av"),), suffix="-misses", missing="misses", **BOARDS),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # a split needs only its own file; to measure retrieval the csv is enough

    @cached_property
    def _types(self) -> list[str]:
        """Recipe types, by number where they are numbers, of all official files that are here."""
        found: set[str] = set()
        for names in (TRAINVAL, TEST):
            if path := self.find_any(*names):
                found |= {str(video.get("recipe_type", "")) for video in _database(path).values()}
        if path := self.find_any(*RETRIEVAL):
            found |= set(source.read_rows_by_header(path, ("task",))["task"])
        if not found:
            raise source.DataError(
                f"{self.title}: found neither {TRAINVAL[0]} nor {RETRIEVAL[0]} in {self.root} or one folder below it"
            )
        found.discard("")  # their segments are malformed rows
        return sorted(found, key=lambda type_: (len(type_), type_))

    @cached_property
    def classes(self) -> list[str]:
        """Recipe types, with the dish where `label_foodtype.csv` (no header) names it."""
        path, dishes = self.find_any("label_foodtype.csv"), {}
        if path:
            rows = source.read_rows(path, ("type", "dish"))
            if (twice := rows["type"].duplicated()).any():
                raise source.DataError(f"{path}: the type {rows['type'][twice].iloc[0]} stands there twice")
            dishes = dict(zip(rows["type"], rows["dish"], strict=True))
        return [f"{type_} {dishes[type_]}" if type_ in dishes else type_ for type_ in self._types]

    def has_text(self, split: str) -> bool:
        return split != "test"

    def read_split(self, split: str) -> source.Official:
        if split == "retrieval":
            rows = source.read_rows_by_header(self.find(*RETRIEVAL), COLUMNS)
        else:
            path = self.find(*(TEST if split == "test" else TRAINVAL))
            rows = source.rows_of(path, COLUMNS, _segments(path, SUBSETS[split]))
        video_id, start, end = rows["video_id"], rows.numbers("start"), rows.numbers("end")
        clips: dict[str, Any] = {
            "clip_id": source.segment_ids(video_id, rows["start"], rows["end"]),
            "video_id": video_id,
            "start": start,
            "end": end,
            "labels": rows.labels("task", self._types),
        }
        if self.has_text(split):
            clips["text"] = rows["text"]
        return rows.official(clips)


def _database(path: Path) -> dict[str, dict[str, Any]]:
    """Video -> what is said of it."""
    return source.read_json(path, SHAPE, lambda content: {name: {**of} for name, of in content["database"].items()})


def _segments(path: Path, subset: str) -> Iterator[tuple[Any, ...]]:
    """The segments of a subset, with the values of `COLUMNS`."""
    for video_id, video in _database(path).items():
        if video.get("subset") != subset:
            continue
        for annotation in video.get("annotations") or []:
            try:
                (start, end), sentence = annotation["segment"], annotation.get("sentence") or ""
            except (TypeError, KeyError, ValueError) as error:
                raise source.DataError(
                    f"{path}: {video_id}: a step is not {{segment: [start, end], …}}: {error}"
                ) from error
            yield video_id, start, end, str(sentence).strip(), video.get("recipe_type", "")
