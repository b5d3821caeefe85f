"""What a dataset file says about its dataset: official files -> one table a split. No torch in here."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.boards import Board
from datamodules.errors import DataError
from datamodules.progress import Track, no_progress
from datamodules.source.captions import Captions
from datamodules.source.official_text import open_text
from datamodules.table import arrow

LABELS = pd.ArrowDtype(pa.list_(pa.int16()))
"""The type of the column `labels`: a list of class indices a clip, as arrays and not as Python objects."""
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?$"
CHUNK_ROWS = 1 << 16
"""Rows of a CSV that are Python objects at a time."""

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
    """File names without suffix under which the clips may lie, best first; each aligned with `clips`."""
    malformed: list[str] = field(default_factory=list)
    """Rows that could not be read: `file:line: reason`."""
    segments: pd.DataFrame | None = None
    """Of videos whose steps are to be found in time: clip_id, label (class index), start, end (seconds), one row a step
    that is annotated. The manifest then has one row a second."""
    steps: pd.Series | None = None
    """Aligned with `clips`, `LABELS`: the classes that are to be found in each video, in their order."""
    timed_stems: list[pd.Series] = field(default_factory=list)
    """As `stems`, names that say when the clip begins: such a file is the cut clip, and is taken before the others."""


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


SAMPLE_MARK = "SAMPLE.json"
"""The file that says that a dataset's folder is made-up sample data."""


class Rows:
    """The rows of an official CSV as columns of text, never a Python object a row.

    Rows that cannot be used are noted with their line and why, never dropped silently: `reject` marks them,
    `official` leaves them out.

    Args:
        path: the file.
        columns: name -> its values.
        lines: [rows] where each row stands in the file.
        malformed: (line, why) of what is no row.
    """

    def __init__(
        self, path: Path, columns: dict[str, pa.ChunkedArray], lines: np.ndarray, malformed: list[tuple[int, str]]
    ):
        self.path, self._malformed = path, malformed
        self._columns = {name: pd.Series(column, dtype="str") for name, column in columns.items()}
        self._lines = lines
        self._rejected = pd.Series(None, index=range(len(lines)), dtype="str")
        self._elsewhere = np.zeros(len(lines), dtype=bool)

    def __getitem__(self, name: str) -> pd.Series:
        return self._columns[name]

    def __len__(self) -> int:
        return len(self._lines)

    def numbers(self, name: str) -> pd.Series:
        """The column as float64; rows in which it is no finite number are rejected."""
        text = pc.ascii_trim_whitespace(arrow(self[name], pa.large_string()))
        numbers = pc.cast(pc.if_else(pc.match_substring_regex(text, NUMBER), text, None), pa.float64())
        bad = pd.Series(numbers.is_null().to_numpy(zero_copy_only=False))
        self.reject(bad, f"{name} is no number: " + self[name].where(bad))
        return numbers.to_pandas()

    def labels(self, name: str, classes: Sequence[str], separator: str | None = None) -> pd.Series:
        """The column's labels as sorted class indices; rows with a label that is not in `classes` are rejected.

        Args:
            name: the column.
            classes: what its labels are called, in the order of the class index.
            separator: between the labels of a row; None = one label a row.
        """
        text = arrow(self[name], pa.large_string())
        lists = pc.split_pattern(text, separator) if separator else pa.LargeListArray.from_arrays(
            pa.array(np.arange(len(text) + 1)), text
        )  # fmt: skip
        parents = pc.list_parent_indices(lists).to_numpy()
        values = lists.flatten()
        found = pc.index_in(values, value_set=pa.array(classes, pa.large_string()))
        unknown = np.flatnonzero(pc.is_null(found).to_numpy(zero_copy_only=False))
        if len(unknown):
            bad, first = np.unique(parents[unknown], return_index=True)
            why = pd.Series([f"unknown label {v.as_py()!r}" for v in values.take(unknown[first])], index=bad)
            self.reject(self._lines_mask(bad), why.reindex(range(len(self))))
        indices = pc.fill_null(found, -1).to_numpy()
        # Sorted, and each once, within its row.
        width = len(classes) + 1
        flat = np.unique(parents * width + indices + 1)
        counts = np.bincount(flat // width, minlength=len(self))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pd.Series(pa.ListArray.from_arrays(offsets, pa.array(flat % width - 1, pa.int16())), dtype=LABELS)

    def reject(self, mask: Any, why: str | pd.Series) -> None:
        """Leaves the rows of a boolean mask out, and says why; the first reason of a row stays."""
        mask = np.asarray(mask, dtype=bool) & self._rejected.isna().to_numpy()
        if mask.any():
            self._rejected = self._rejected.mask(mask, why)

    @property
    def malformed(self) -> list[str]:
        """`file:line: reason` of what is no row at all."""
        return self._located(self._malformed)

    def _located(self, faults: Iterable[tuple[int, str]]) -> list[str]:
        return [f"{self.path.name}:{line}: {why}" for line, why in sorted(faults)]

    def belongs_elsewhere(self, mask: Any) -> None:
        """Leaves rows out that are known to be of another split; what is wrong with them is a fault of that one."""
        self._elsewhere |= np.asarray(mask, dtype=bool)

    def keep_split(self, column: str, split: str, splits: Sequence[str]) -> None:
        """Keeps the rows of a split, of a list of several; a row that is of none of them is a fault of all."""
        known = self[column].isin(list(splits))
        self.reject(~known, f"the {column} is none of {', '.join(splits)}: " + self[column])
        self.belongs_elsewhere(known & (self[column] != split))

    def _lines_mask(self, rows: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(self), dtype=bool)
        mask[rows] = True
        return mask

    def official(
        self, clips: dict[str, Any], stems: Sequence[pd.Series], timed_stems: Sequence[pd.Series] = ()
    ) -> Official:
        """The rows that can be used, with the columns of `Official.clips`.

        Also rejected are rows without an id, clips that stand there twice, and segments that are none.
        """
        table = pd.DataFrame(clips).astype({"clip_id": "str", "video_id": "str"})
        for name in ("video_id", "clip_id"):
            self.reject((table[name] == "") | table[name].isna(), "no " + name.replace("_", " "))
        no_segment = ~((table["start"] >= 0) & (table["start"] < table["end"]))
        text = table["start"].astype("str") + " to " + table["end"].astype("str") + " s is no segment"
        self.reject(no_segment, text)
        usable = self._rejected.isna().to_numpy() & ~self._elsewhere
        twice = np.zeros(len(self), dtype=bool)
        twice[usable] = table.loc[usable, "clip_id"].duplicated()
        self.reject(twice, "the clip " + table["clip_id"] + " stands here twice")

        rejected = self._rejected.notna().to_numpy() & ~self._elsewhere
        faults = [*self._malformed, *zip(self._lines[rejected], self._rejected[rejected], strict=True)]
        usable &= ~rejected
        return Official(
            table[usable].reset_index(drop=True),
            [stem[usable].reset_index(drop=True) for stem in stems],
            self._located(faults),
            timed_stems=[stem[usable].reset_index(drop=True) for stem in timed_stems],
        )


def read_rows(path: Path, names: Sequence[str]) -> Rows:
    """Reads a CSV without a header; `#` starts a comment line, fields may be quoted and follow a blank.

    Args:
        path: the file.
        names: of its columns, in their order.

    Raises:
        DataError: the file is not a CSV, e.g. has an unclosed quote, or its encoding is not recognised.
    """
    with open_text(path) as file:
        return _read(path, csv.reader(file, skipinitialspace=True), names, range(len(names)), len(names))


def read_rows_by_header(path: Path, names: Sequence[str]) -> Rows:
    """Reads these columns of a CSV whose first line names them, in whatever order they stand.

    Raises:
        DataError: a column is missing, or the file is no CSV.
    """
    with open_text(path) as file:
        reader = csv.reader(file, skipinitialspace=True)
        header = next(_csv(path, reader), [])
        missing = [name for name in names if name not in header]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)}; its first line is {','.join(header)!r}")
        return _read(path, reader, names, [header.index(name) for name in names], len(header))


def _read(path: Path, reader: Any, names: Sequence[str], at: Sequence[int], fields: int) -> Rows:
    chunks: list[list[pa.Array]] = [[] for _ in names]
    lines: list[np.ndarray] = []
    malformed: list[tuple[int, str]] = []
    rows: list[list[str]] = []
    numbers: list[int] = []

    def flush() -> None:
        columns = list(zip(*rows, strict=True)) or [()] * fields
        for chunk, position in zip(chunks, at, strict=True):
            chunk.append(pa.array(columns[position], pa.large_string()))
        lines.append(np.array(numbers, dtype=np.int64))
        rows.clear()
        numbers.clear()

    for row in _csv(path, reader):
        if len(row) == fields and not row[0].startswith("#"):
            rows.append(row)
            numbers.append(reader.line_num)
            if len(rows) == CHUNK_ROWS:
                flush()
        elif row and not row[0].startswith("#"):
            malformed.append((reader.line_num, f"{len(row)} fields instead of {fields}"))
    flush()
    columns = {name: pa.chunked_array(chunk) for name, chunk in zip(names, chunks, strict=True)}
    return Rows(path, columns, np.concatenate(lines), malformed)


def _csv(path: Path, reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}; is there a quote that never ends?") from error


def class_lists(lists: Sequence[Sequence[int]]) -> pd.Series:
    """Lists of class indices as a column of type `LABELS`."""
    return pd.Series(pa.array(lists, LABELS.pyarrow_dtype), dtype=LABELS)


def milliseconds(seconds: pd.Series) -> pd.Series:
    """`30.0` -> `"30000"`, as file names have it; 0 where the row has no number and is rejected anyway."""
    return (seconds.fillna(0) * 1000).round().clip(0, 1e15).astype("int64").astype("str")


def padded(seconds: pd.Series, width: int = 6) -> pd.Series:
    """`30.0` -> `"000030"`."""
    return seconds.fillna(0).clip(0, 1e12).astype("int64").astype("str").str.zfill(width)


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
    files = " and ".join(source.required_files())
    raise DataError(
        f"{source.title} is not under {data_root}: looked for a folder named {' or '.join(source.folders)} "
        f"(any case){f' with {files}' if files else ''}; there is {present}. "
        f"Put it there, or name its own folder with data.root=FOLDER"
    )
