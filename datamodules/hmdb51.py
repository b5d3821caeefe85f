"""HMDB51 (Kuehne et al. 2011): clips of films and the web, 51 classes of human motion, in three official splits.

Official files, of `test_train_splits.rar`: `testTrainMulti_7030_splits/<class>_test_split<k>.txt`, each line a file's
name and 1 (train), 2 (test) or 0 (neither), in most copies with a blank at its end. A clip's class is its list's. The
split `all` is what the first lists, whatever its status.
Media: `<class>/<file>.avi`, or in any other folder; one name in twelve has `[`, `#`, `;`, `&`, … in it. Without sound.

The clips are taken to be recordings of their own: of which film one is cut is in no official file.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from datamodules import source
from datamodules.boards import WHOLE, official_split_boards

SPLITS = (*source.official_splits(3), WHOLE)
FOLDER = "testTrainMulti_7030_splits"
LIST = re.compile(r"(?P<label>.+)_test_split[123]\.txt")
STATUS = {"0": "neither", "1": "train", "2": "test"}


class HMDB51(source.Source):
    name = "hmdb51"
    title = "HMDB51"
    citation = "Kuehne, Jhuang, Garrote, Poggio, Serre. ICCV 2011"
    holds = "6,766 clips of some seconds from films and the web, 51 classes of human motion, one a clip"
    licence = "CC BY 4.0"
    url = "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/"
    folders = ("HMDB51", "hmdb51", "HMDB")
    splits = SPLITS
    nested = source.overlapping(SPLITS)
    sizes: ClassVar = dict(zip(SPLITS, (*(3570, 1530) * 3, 6766), strict=True))  # measured on MIL-NCE's list
    boards = official_split_boards("hmdb51", folds=3)

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # a folder of them

    @cached_property
    def _lists(self) -> Path:
        return self.find_folder(FOLDER, "test_train_splits", "splits", archive="test_train_splits.rar")

    @cached_property
    def classes(self) -> list[str]:
        """Those that have a list, sorted."""
        found = {named["label"] for path in self._lists.iterdir() if (named := LIST.fullmatch(path.name))}
        if not found:
            raise source.DataError(f"{self._lists}: no list is called <class>_test_split1.txt; unpack the splits anew")
        return sorted(found)

    def read_split(self, split: str) -> source.Official:
        part, number = ("", "1") if split == WHOLE else (split[:-1], split[-1])
        lines = [
            (place, *line.strip().rpartition(" "), name)
            for name in self.classes
            for place, line in source.lines_of(source.file_of(self._lists, f"{name}_test_split{number}", ".txt"))
        ]
        values = [(file.strip(), status, name) for _, file, _, status, name in lines]
        rows = source.rows_of(self._lists, ("file", "status", "label"), values, [place for place, *_ in lines])
        status = rows["status"].map(STATUS)
        rows.reject(status.isna(), "the status is none of 0, 1 and 2: " + rows["status"])
        if part:
            rows.belongs_elsewhere(status.notna() & (status != part))
        clip_id = rows["file"].str.removesuffix(".avi")
        return rows.official({"clip_id": clip_id, "labels": rows.labels("label", self.classes)})
