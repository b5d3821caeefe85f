"""What a dataset file says about its dataset: official files -> one table a split. No torch in here."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from datamodules.types import Board

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac"})


class DataError(Exception):
    """The data cannot be used as it is; the message says which files and what to do."""


@dataclass
class Official:
    """A split as its official files list it."""

    clips: pd.DataFrame
    """Columns: clip_id (unique), video_id, start, end (seconds in the source video), labels (list of
    class indices), stems (list of file names without suffix under which the clip may lie, best first)."""
    malformed: list[str] = field(default_factory=list)
    """Rows that could not be read: `file:line: reason`."""


class Source(ABC):
    """A dataset: where its official files are, what they say, and how it is scored.

    Args:
        root: the dataset's own folder.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]
    """Names of its folder under the data root, as people have it; case does not matter."""
    splits: ClassVar[tuple[str, ...]]
    multilabel: ClassVar[bool]
    boards: ClassVar[tuple[Board, ...]]
    defaults: ClassVar[dict[str, Any]] = {}
    """The dataset's layer of the `data` configuration, e.g. its log-mel mean and standard deviation."""
    version: ClassVar[int] = 1
    """Raised when this file changes in a way that changes which clips or labels a split has."""

    def __init__(self, root: Path):
        self.root = root

    @classmethod
    @abstractmethod
    def required_files(cls) -> tuple[str, ...]:
        """Official files without which the dataset is not there, as paths relative to its folder."""

    @cached_property
    @abstractmethod
    def classes(self) -> list[str]:
        """Class names in the order of the class index."""

    @abstractmethod
    def read_split(self, split: str) -> Official:
        """The split as the official files list it, whether its media are there or not."""

    def find(self, *names: str) -> Path:
        """The first of these official files that is there, in the root or one folder below it.

        Raises:
            DataError: naming all that was looked for.
        """
        for name in names:
            for path in (self.root / name, *sorted(self.root.glob(f"*/{name}"))):
                if path.is_file():
                    return path
        raise DataError(f"{self.title}: found none of {', '.join(names)} in {self.root} or one folder below it")


def read_clips(path: Path, fields: int, parse: Callable[[list[str]], dict[str, Any] | None]) -> Official:
    """Reads an official CSV of clips; rows that cannot be used are noted with their line, never dropped silently.

    Args:
        path: comma-separated, `#` starts a comment line, fields may be quoted and follow a blank.
        fields: how many fields a row has.
        parse: row -> the columns of `Official.clips`; None leaves the row out (it belongs to another split);
            ValueError says what is wrong with it.
    """
    columns: dict[str, list[Any]] = {c: [] for c in ("clip_id", "video_id", "start", "end", "labels", "stems")}
    malformed: list[str] = []
    seen: set[str] = set()
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file, skipinitialspace=True)
        for row in reader:
            if not row or row[0].startswith("#"):
                continue
            try:
                if len(row) != fields:
                    raise ValueError(f"{len(row)} fields instead of {fields}")
                clip = parse(row)
                if clip is None:
                    continue
                if not clip["video_id"]:
                    raise ValueError("no video id")
                if clip["clip_id"] in seen:
                    raise ValueError(f"the clip {clip['clip_id']} stands here twice")
                if not 0 <= clip["start"] < clip["end"] < float("inf"):
                    raise ValueError(f"{clip['start']} to {clip['end']} s is no segment")
            except ValueError as error:
                malformed.append(f"{path.name}:{reader.line_num}: {error}")
                continue
            seen.add(clip["clip_id"])
            for name, values in columns.items():
                values.append(clip[name])
    return Official(pd.DataFrame(columns), malformed)


def find_root(source: type[Source], data_root: Path) -> Path:
    """The dataset's folder under the data root, by its official name or ours, whatever the case.

    Raises:
        DataError: naming the folders and files that were looked for.
    """
    wanted = {name.lower() for name in source.folders}
    folders = [p for p in sorted(data_root.iterdir()) if p.is_dir()] if data_root.is_dir() else []
    for folder in folders:
        if folder.name.lower() in wanted:
            return folder
    present = ", ".join(p.name for p in folders) or "no folders"
    raise DataError(
        f"{source.title} is not under {data_root}: looked for a folder named {' or '.join(source.folders)} "
        f"(any case) with {' and '.join(source.required_files())}; there is {present}. "
        f"Put it there, or name its own folder with data.root=FOLDER"
    )
