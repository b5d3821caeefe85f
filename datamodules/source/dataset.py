"""What a dataset's file says of its dataset. Nothing heavy is imported here: no torch, no pandas."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from datamodules.boards import Board
from datamodules.errors import DataError
from datamodules.progress import Track, no_progress

if TYPE_CHECKING:  # what `bench list` asks of a dataset is known without reading anything
    import numpy as np
    import pandas as pd

    Column = TypeVar("Column", pd.DataFrame, pd.Series)

    from datamodules.source.captions import Captions

MediaKind = Literal["auto", "clips", "videos"]
"""What media files with the bare id of a video are: cut clips, whole videos in which a clip begins at its `start`, or
distinguished by their length. Files whose names say when the clip begins are cut clips."""


@dataclass
class Official:
    """A split as its official files list it."""

    clips: pd.DataFrame
    """Columns: clip_id (unique), video_id, start, end (seconds in the source video; an end of
    inf is the video's), labels (`LABELS`); and text, where the clips have one."""
    stems: list[pd.Series]
    """File names without suffix under which the clips may lie, best first; each aligned with `clips`. With the folder
    that the file is in (`folder/name`) where files of several have one name, or with several (`release/word/name`)."""
    malformed: list[str] = field(default_factory=list)
    """Rows that could not be read: `file:line: reason`."""
    segments: pd.DataFrame | None = None
    """Of videos whose steps are to be found in time: clip_id, label (class index), start, end (seconds), one row a step
    that is annotated. The manifest then has one row a second."""
    steps: pd.Series | None = None
    """Aligned with `clips`, `LABELS`: the classes that are to be found in each video, in their order."""
    timed_stems: list[pd.Series] = field(default_factory=list)
    """As `stems`, names that say when the clip begins: such a file is the cut clip, and is taken before the others."""

    def only(self, kept: np.ndarray) -> Official:
        """The split without the other clips.

        Args:
            kept: [clips] bool.
        """

        def of_kept(column: Column) -> Column:
            return column[kept].reset_index(drop=True)

        return replace(
            self,
            clips=of_kept(self.clips),
            stems=[of_kept(stems) for stems in self.stems],
            timed_stems=[of_kept(stems) for stems in self.timed_stems],
            steps=None if self.steps is None else of_kept(self.steps),
        )


class Source(ABC):
    """A dataset: where its official files are, what they say, and how it is scored.

    Args:
        root: the dataset's own folder.
        cache: folder for what is worth remembering of large official files.
        track: shows the progress of reading them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    citation: ClassVar[str] = ""
    """Authors, where and when it was published, arXiv number."""
    holds: ClassVar[str] = ""
    """How much there is of what, in words."""
    licence: ClassVar[str] = ""
    """As its makers state it, of the official files where the media have terms of their own; none = not known here."""
    url: ClassVar[str] = ""
    """Where its makers give it out."""
    folders: ClassVar[tuple[str, ...]]
    """Names of its folder under the data root, as people have it; case does not matter."""
    splits: ClassVar[tuple[str, ...]]
    multilabel: ClassVar[bool] = False
    boards: ClassVar[tuple[Board, ...]]
    defaults: ClassVar[dict[str, Any]] = {}
    """The dataset's layer of the `data` configuration, e.g. its log-mel mean and standard deviation."""
    sizes: ClassVar[Mapping[str, int]] = {}
    """Split -> clips of the official release, where a source for that number is known: a list that somebody has
    shortened does not pass for complete."""
    nested: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    """Pairs of splits of which one is part of the other: that they share videos is no leak."""
    media: ClassVar[MediaKind] = "clips"
    """What the media files of this dataset usually are."""
    listed: ClassVar[bool] = True
    """Whether official files list its clips; else the names of media files are all that there is."""
    narrated: ClassVar[bool] = False
    """Whether its rows are whole videos, out of which training cuts clips (`NarrationConfig`)."""
    version: ClassVar[int] = 1
    """Raised when this file changes in a way that changes which clips or labels a split has."""

    def __init__(self, root: Path, cache: Path = Path("runs/cache"), track: Track = no_progress):
        self.root, self.cache, self.track = root, cache, track

    @classmethod
    @abstractmethod
    def required_files(cls) -> tuple[str, ...]:
        """Official files that every split needs, as paths relative to its folder. What only some splits need is looked
        for when these are read."""

    @cached_property
    @abstractmethod
    def classes(self) -> list[str]:
        """Class names in the order of the class index."""

    @property
    def class_texts(self) -> list[str]:
        """What a text branch is asked for each class."""
        return [name.replace("_", " ") for name in self.classes]

    @property
    def class_codes(self) -> list[str]:
        """What label sets of others call each class, see `relabel.py`.

        Raises:
            DataError: there are none.
        """
        raise DataError(
            f"{self.title}: there are no other label sets than the official one; leave data.train_labels_file out"
        )

    def class_relevance(self) -> np.ndarray | None:
        """[C, C] whole numbers from 0 on: how much a clip of one class is worth to who searches with one of another,
        for graded retrieval; None = the dataset does not say."""
        return None

    @abstractmethod
    def read_split(self, split: str) -> Official:
        """The split as the official files list it, whether its media are there or not."""

    @cached_property
    def captions(self) -> Captions | None:
        """What is said in the videos, of a dataset of narrated videos."""
        return None

    def has_text(self, split: str) -> bool:
        """Whether its clips have texts of their own."""
        return False

    def official_size(self, split: str) -> int | None:
        """Clips of the split in the official release; None if unknown, or if this is a made-up sample."""
        return None if self.is_sample else self.sizes.get(split)

    @property
    def is_sample(self) -> bool:
        """Whether this is made-up sample data, whatever the way to it: its mark lies in the folder, or beside the
        official files where these lie one folder above or below."""
        folders = (self.root, self.root.resolve().parent, *self.root.glob("*/"))
        return any((folder / SAMPLE_MARK).is_file() for folder in folders)

    def find(self, *names: str) -> Path:
        """The first of these official files that is there, in the root or one folder below it.

        Raises:
            DataError: naming all that was looked for.
        """
        if path := self.find_any(*names):
            return path
        raise DataError(f"{self.title}: found none of {', '.join(names)} in {self.root} or one folder below it")

    def find_any(self, *names: str) -> Path | None:
        """As `find`, of files that need not be there."""
        places = (path for name in names for path in (self.root / name, *sorted(self.root.glob(f"*/{name}"))))
        return next((path for path in places if path.is_file()), None)

    def find_folder(self, *names: str, archive: str) -> Path:
        """The first of these folders that is there, in the root or at most two folders below it.

        Args:
            names: also as paths, such as `release/annotations`.
            archive: what it is unpacked from, for the error.

        Raises:
            DataError: naming all that was looked for.
        """
        patterns = (depth + name for name in names for depth in ("", "*/", "*/*/"))
        for path in (path for pattern in patterns for path in sorted(self.root.glob(pattern))):
            if path.is_dir():
                return path
        raise DataError(
            f"{self.title}: no folder {' or '.join(names)} in {self.root} or two folders below it; unpack {archive} "
            f"there"
        )


def official_splits(count: int) -> tuple[str, ...]:
    """`train1`, `test1`, `train2`, …: a dataset that its makers have split several times."""
    return tuple(f"{part}{number}" for number in range(1, count + 1) for part in ("train", "test"))


def overlapping(splits: Sequence[str]) -> frozenset[tuple[str, str]]:
    """`Source.nested` of `official_splits`, and of `boards.WHOLE` beside them: those that do not end in the same number
    are parts of the same clips."""
    return frozenset(pair for pair in itertools.combinations(splits, 2) if pair[0][-1] != pair[1][-1])


def each_once(officials: Sequence[Official]) -> list[Official]:
    """Clips that several splits list, as official splits of one set do, are of the first that does."""
    found: list[Official] = []
    for official in officials:
        ids = official.clips["clip_id"]
        new = ids.notna().to_numpy()
        for other in found:
            new = new & ~ids.isin(other.clips["clip_id"]).to_numpy()
        found.append(official.only(new))
    return found


def joined(officials: Sequence[Official]) -> Official:
    """Splits of labelled clips as one split, with each clip once."""
    import pandas as pd

    each = each_once(officials)
    stems = zip(*(official.stems for official in each), strict=True)
    return Official(
        pd.concat([official.clips for official in each], ignore_index=True),
        [pd.concat(names, ignore_index=True) for names in stems],
        [row for official in each for row in official.malformed],
    )


SAMPLE_MARK = "SAMPLE.json"
"""The file that says that a dataset's folder is made-up sample data."""


def find_root(source: type[Source], data_root: Path) -> Path:
    """The dataset's folder under the data root, by its official name or ours, whatever the case; the first of its
    names of which there is a folder.

    Raises:
        DataError: naming the folders and files that were looked for.
    """
    folders = [p for p in sorted(data_root.iterdir()) if p.is_dir()] if data_root.is_dir() else []
    for name in source.folders:
        for folder in folders:
            if folder.name.lower() == name.lower():
                return folder
    present = ", ".join(p.name for p in folders) or "no folders"
    files = " and ".join(source.required_files())
    raise DataError(
        f"{source.title} is not under {data_root}: looked for a folder named {' or '.join(source.folders)} "
        f"(any case){f' with {files}' if files else ''}; there is {present}. "
        f"Put it there, or name its own folder with data.root=FOLDER"
    )
