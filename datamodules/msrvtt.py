"""MSR-VTT (Xu et al. 2016): 10,000 web clips of 10 to 30 s, each with 20 captions.

Official files, as ArrowLuo/CLIP4Clip packs them: `MSRVTT_data.json` (videos, sentences) or the two it was joined from,
`train_val_videodatainfo.json` and `test_videodatainfo.json`; `MSRVTT_JSFUSION_test.csv`, the test set "1k-A" with one
caption a video; `MSRVTT_train.{9k,7k}.csv` (video_id). Media: `videoN.mp4`, cut clips: their `start time` is that in
the YouTube video they are from. A clip's class is its category. The full test split is identified by its numbers, as in
`MSRVTT_data.json` the `split` of every video is `train`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from datamodules import source
from datamodules.boards import retrieval_boards

if TYPE_CHECKING:
    import pandas as pd

DATA = "MSRVTT_data.json"
OLDER = ("train_val_videodatainfo.json", "test_videodatainfo.json")
TEST_1K = "MSRVTT_JSFUSION_test.csv"
TRAIN = {"train_9k": "MSRVTT_train.9k.csv", "train_7k": "MSRVTT_train.7k.csv"}
FULL_TEST = range(7010, 10_000)
"""The numbers of its videos, by the dataset's own readme."""
SHAPE = "the JSON of MSR-VTT, {videos: [{video_id, category, …}], sentences: [{video_id, sen_id, caption}]}"
CATEGORIES = (
    *("music", "people", "gaming", "sports/actions", "news/events/politics", "education", "tv shows", "movie/comedy"),
    *("animation", "vehicles/autos", "howto", "travel", "science/technology", "animals/pets", "kids/family"),
    *("documentary", "food/drink", "cooking", "beauty/fashion", "advertisement"),
)
"""As `category.txt` numbers them."""


Annotations = tuple[dict[str, int], list[tuple[str, Any, str]]]
"""Video -> place in `CATEGORIES`; and of each sentence its video, number and text."""


class MSRVTT(source.Source):
    name = "msrvtt"
    title = "MSR-VTT"
    citation = "Xu, Mei, Yao, Rui. CVPR 2016"
    holds = "10,000 web clips of 10 to 30 s (41 h), 20 captions each"
    url = (
        "https://www.microsoft.com/en-us/research/publication/"
        "msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language/"
    )
    folders = ("MSRVTT", "MSR-VTT", "MSR_VTT")
    splits = ("train_9k", "train_7k", "test_1k", "test_full")
    sizes: ClassVar = {"train_9k": 180_000, "train_7k": 140_200, "test_1k": 1000, "test_full": 59_800}  # 20 a video
    nested = frozenset({("train_7k", "train_9k"), ("test_1k", "test_full")})
    media = "clips"
    # Missing clips are misses, as AVLnet counts the 32 of its 1,000 test clips that have no sound. Version 2: ties.
    boards = (
        *retrieval_boards(
            "msrvtt",
            (("t", "av"), ("t", "v"), ("v", "t"), ("a", "v"), ("at", "v")),
            missing="misses",
            dataset="msrvtt",
            train="none, 9k or 7k",
            split="test_1k",
            version=2,
        ),
        # Of the 9k videos 1,990 are in the full test split.
        *retrieval_boards(
            "msrvtt-full",
            (("t", "v"),),
            missing="misses",
            dataset="msrvtt",
            train="none or 7k",
            split="test_full",
            version=2,
        ),
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # a split needs only its own files; to measure on 1k-A its csv is enough

    @cached_property
    def classes(self) -> list[str]:
        """The categories; none without the JSON."""
        return list(CATEGORIES) if self._json_files else []

    def has_text(self, split: str) -> bool:
        return True

    def read_split(self, split: str) -> source.Official:
        """One row a caption; of `train_*` and `test_full` these are 20 a video."""
        if split == "test_1k":
            # Of the 1,000 captions 995 are different, so that not every video can be found by its caption.
            rows = source.read_rows_by_header(self.find(TEST_1K), ("video_id", "sentence"))
            return self._official(rows, rows["video_id"], rows["sentence"])
        _, sentences = self._annotations
        rows = source.rows_of(self._json_files[0], ("video_id", "sen_id", "caption"), sentences)
        malformed: list[str] = []
        if split == "test_full":
            chosen = rows["video_id"].isin([f"video{number}" for number in FULL_TEST])
        else:
            listed = self._listed(self.find(TRAIN[split]), captioned=rows["video_id"])
            chosen, malformed = rows["video_id"].isin(listed.clips["video_id"]), listed.malformed
        rows.belongs_elsewhere(~chosen)
        official = self._official(rows, rows["video_id"] + "_" + rows["sen_id"], rows["caption"])
        return replace(official, malformed=[*malformed, *official.malformed])

    def _listed(self, path: Path, captioned: pd.Series) -> source.Official:
        """The videos of a list, of those that have captions."""
        rows = source.read_rows_by_header(path, ("video_id",))
        video_id = rows["video_id"]
        rows.reject(~video_id.isin(captioned), "no caption of " + video_id + f" in {self._json_files[0].name}")
        return rows.official({"clip_id": video_id})

    def _official(self, rows: source.Rows, clip_id: pd.Series, text: pd.Series) -> source.Official:
        video_id, category = rows["video_id"], self._annotations[0] if self._json_files else {}
        labels = source.class_lists([[category[video]] if video in category else [] for video in video_id])
        return rows.official({"clip_id": clip_id, "video_id": video_id, "labels": labels, "text": text.str.strip()})

    @cached_property
    def _json_files(self) -> list[Path]:
        """The joined JSON, or those of the two older ones that are there."""
        joined = self.find_any(DATA)
        older = (self.find_any(name) for name in OLDER)
        return [joined] if joined else [path for path in older if path]

    @cached_property
    def _annotations(self) -> Annotations:
        category: dict[str, int] = {}
        sentences: list[tuple[str, Any, str]] = []
        for path in self._json_files or [self.find(DATA, *OLDER)]:  # which says what was looked for
            of_videos, said = source.read_json(path, SHAPE, _annotations_of)
            category |= of_videos
            sentences += said
        return category, sentences


def _annotations_of(content: Any) -> Annotations:
    """Those of a file; a category that there is not is a `ValueError`."""
    numbers = range(len(CATEGORIES))
    category = {video["video_id"]: numbers.index(video["category"]) for video in content["videos"]}
    return category, [(said["video_id"], said["sen_id"], said["caption"] or "") for said in content["sentences"]]
