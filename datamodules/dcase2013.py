"""DCASE 2013 (Giannoulis et al. 2013): recordings of 30 s, ten acoustic scenes, one a recording.

Official files: none, the names of the recordings say all: `scenes_stereo/<scene><nn>.wav` is the development set, on
which is trained, `scenes_stereo_testset/<scene><nn>.wav` the one that is scored, 10 recordings of each scene in both.
Media: those; the two folders have files of equal names, which are distinguished by them. In dcase_util's copies the
second set's are called `test_<scene><nn>`, in CrissCross's each folder lies in another of its name.

One recording is a percent: a difference of few says nothing. Papers on self-supervised sound that name DCASE 2014 are
taken to mean this set, of the challenge of 2013.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from datamodules import source
from datamodules.boards import Board, Classification, and_linear

SETS = {"train": "scenes_stereo", "test": "scenes_stereo_testset"}
SUFFIXES = {".wav", ".flac", ".ogg", ".mp3"}
SCENES = (
    *("bus", "busystreet", "office", "openairmarket", "park"),
    *("quietstreet", "restaurant", "supermarket", "tube", "tubestation"),
)


class DCASE2013(source.Source):
    name = "dcase2013"
    title = "DCASE 2013 scenes"
    citation = "Giannoulis, Benetos, Stowell, Rossignol, Lagrange, Plumbley. WASPAA 2013"
    holds = "200 recordings of 30 s, 10 acoustic scenes, one a recording"
    url = "https://dcase.community/challenge2013/task-acoustic-scene-classification"
    folders = ("DCASE2013", "dcase2013", "DCASE-2013")
    splits = ("train", "test")
    sizes: ClassVar = {"train": 100, "test": 100}
    listed = False
    boards = and_linear(
        Board("dcase2013", dataset="dcase2013", train="train", split="test", task=Classification(), main="top1")
    )

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()

    @property
    def classes(self) -> list[str]:
        return list(SCENES)

    def _folder(self, split: str) -> Path:
        name = SETS[split]
        return self.find_folder(f"{name}/{name}", name, archive=f"{name}.zip")

    def read_split(self, split: str) -> source.Official:
        folder = self._folder(split)
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        places = [f"{folder.name}/{path.name}" for path in files]
        rows = source.rows_of(folder, ("stem",), [(path.stem,) for path in files], places)
        stem = rows["stem"].str.removeprefix("test_")
        rows["scene"] = stem.str.extract(r"^([a-z]+)\d\d$")[0].fillna(stem)
        clip_id = "test_" + stem if split == "test" else stem
        labels = rows.labels("scene", SCENES)
        return rows.official({"clip_id": clip_id, "labels": labels}, stems=[f"{folder.name}/" + rows["stem"]])
