"""UCF101 (Soomro, Zamir, Shah 2012): 101 classes of what people do, one a clip, in three official splits.

Official files, of `UCF101TrainTestSplits-RecognitionTask.zip`, with CRLF line ends: `ucfTrainTestlist/classInd.txt`
(number from 1, class), `trainlist0<k>.txt` (`<class>/<file> <number>`) and `testlist0<k>.txt` (without the number).
Clips of one group (`g01` to `g25` of a class) are cut from one video, and are never in both lists of a split. What the
first trains and tests is all there is, the split `all`.
Media: `UCF-101/<class>/v_<class>_g<nn>_c<nn>.avi`; those of `HandstandPushups` are called `v_HandStandPushups_…`, in
some copies and lists as their class. Half of the classes have no sound.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import ClassVar

from datamodules import source
from datamodules.boards import WHOLE, official_split_boards

SPLITS = (*source.official_splits(3), WHOLE)
SPELT = {"HandstandPushups": "HandStandPushups"}
"""Class -> how its files spell it."""


class UCF101(source.Source):
    name = "ucf101"
    title = "UCF101"
    citation = "Soomro, Zamir, Shah. arXiv 1212.0402, 2012"
    holds = "13,320 clips of 1 to 71 s from YouTube, 101 classes of what people do, one a clip"
    url = "https://www.crcv.ucf.edu/data/UCF101.php"
    folders = ("UCF101", "UCF-101", "ucf101")
    splits = SPLITS
    nested = source.overlapping(SPLITS)
    sizes: ClassVar = dict(zip(SPLITS, (9537, 3783, 9586, 3734, 9624, 3696, 13320), strict=True))  # measured
    boards = official_split_boards("ucf101", folds=3)

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ("classInd.txt",)  # and the list of the split

    @cached_property
    def classes(self) -> list[str]:
        """In the order of `classInd.txt`, which counts them from 1."""
        rows = source.read_words(self.find("classInd.txt"), ("number", "class"))
        return rows.numbered("number", "class", first=1)["class"].tolist()

    @property
    def class_texts(self) -> list[str]:
        """`ApplyEyeMakeup` -> `apply eye makeup`."""
        return [re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower() for name in self.classes]

    def read_split(self, split: str) -> source.Official:
        if split == WHOLE:
            return source.joined([self.read_split(part) for part in ("train1", "test1")])
        part, number = split[:-1], split[-1]
        columns = ("path", "number") if part == "train" else ("path",)
        rows = source.read_words(self.find(f"{part}list0{number}.txt"), columns)
        parts = rows["path"].str.extract(r"^(?P<label>[^/]+)/(?P<stem>(?P<video>v_.+_g\d+)_c\d+)\.avi$")
        rows.reject(parts["stem"].isna(), "no path like <class>/v_<class>_g<nn>_c<nn>.avi: " + rows["path"])
        rows["label"] = parts["label"].fillna("")
        labels = rows.labels("label", self.classes)
        if part == "train":
            numbers = {name: str(place) for place, name in enumerate(self.classes, 1)}
            rows.reject(rows["number"] != rows["label"].map(numbers), "not the number of its class: " + rows["number"])
        parts = parts.fillna("")
        place = parts["stem"].str.extract(r"(_g\d+_c\d+)$")[0].fillna("")
        as_class, as_files = ("v_" + rows["label"].replace(names) + place for names in ({}, SPELT))
        # The list's name first: it is the clip's, however the copy spells it.
        return rows.official(
            {"clip_id": parts["stem"], "video_id": parts["video"].str.lower(), "labels": labels},
            stems=[parts["stem"], as_class, as_files],
        )
