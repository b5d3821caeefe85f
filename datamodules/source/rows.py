"""The rows of official CSVs as columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.errors import DataError
from datamodules.source.dataset import Official
from datamodules.source.official_text import open_text
from datamodules.table import arrow

LABELS = pd.ArrowDtype(pa.list_(pa.int16()))
"""The type of the column `labels`: a list of class indices a clip, as arrays and not as Python objects."""
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?$"
CHUNK_ROWS = 1 << 16
"""Rows of a CSV that are Python objects at a time."""


class Rows:
    """The rows of an official CSV as columns of text, never a Python object a row.

    Rows that cannot be used are noted with their line and why, never dropped silently: `reject` marks them,
    `official` leaves them out.

    Args:
        path: the file.
        columns: name -> its values.
        lines: [rows] where each row stands in the file.
        malformed: (line, why) of what is no row.
        places: `file:line` of each line from 1, where they are of several files.
    """

    def __init__(
        self,
        path: Path,
        columns: dict[str, pa.ChunkedArray],
        lines: np.ndarray,
        malformed: list[tuple[int, str]],
        places: Sequence[str] | None = None,
    ):
        self.path, self._malformed, self._places = path, malformed, places
        self._columns = {name: pd.Series(column, dtype="str") for name, column in columns.items()}
        self._lines = lines
        self._rejected = pd.Series(None, index=range(len(lines)), dtype="str")
        self._elsewhere = np.zeros(len(lines), dtype=bool)

    def __getitem__(self, name: str) -> pd.Series:
        return self._columns[name]

    def __setitem__(self, name: str, values: pd.Series) -> None:
        """A column that is made of others."""
        self._columns[name] = values.astype("str")

    def __contains__(self, name: str) -> bool:
        return name in self._columns

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
        return [f"{self._place(line)}: {why}" for line, why in sorted(faults)]

    def _place(self, line: int) -> str:
        return self._places[line - 1] if self._places else f"{self.path.name}:{line}"

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

    def numbered(self, index: str, *names: str, first: int = 0) -> Rows:
        """The same rows, of a file that lists the classes: one a row, in the order of the class index.

        Args:
            index: the column that counts them.
            names: columns in which each class has a name, code, … of its own.
            first: from which it counts.

        Raises:
            DataError: a row is none, the index does not count them, or a name stands there twice.
        """
        if self._malformed or not len(self):
            raise DataError(f"{self.path}: expected one row a class; {' '.join(self.malformed[:1]) or 'there is none'}")
        if self[index].tolist() != [str(first + number) for number in range(len(self))]:
            raise DataError(
                f"{self.path}: the indices are not {first}..{first + len(self) - 1} in order; they begin with "
                f"{self[index].iloc[0]!r}"
            )
        for name in names:
            if (twice := self[name].duplicated()).any():
                raise DataError(f"{self.path}: the {name} {self[name][twice].iloc[0]} stands there twice")
        return self

    def official(
        self,
        clips: dict[str, Any],
        stems: Sequence[pd.Series] | None = None,
        timed_stems: Sequence[pd.Series] = (),
    ) -> Official:
        """The rows that can be used, with the columns of `Official.clips`.

        Also rejected are rows without an id, clips that stand there twice, and segments that are none.

        Args:
            clips: the columns. Where they are left out, a clip is a whole recording, which has its id, and no labels.
            stems: of `Official`; default: the id of the recording.
            timed_stems: of `Official`.
        """
        whole = {"clip_id": clips["clip_id"], "video_id": clips["clip_id"], "start": 0.0, "end": np.inf}
        unlabelled = {} if "labels" in clips else {"labels": class_lists([[]] * len(self))}
        table = pd.DataFrame(whole | unlabelled | clips).astype({"clip_id": "str", "video_id": "str"})
        stems = [table["video_id"]] if stems is None else stems
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


def read_rows_by_header(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> Rows:
    """Reads these columns of a CSV whose first line names them, in whatever order they stand.

    Args:
        path: the file.
        names: of the columns.
        optional: of those that it may have.

    Raises:
        DataError: a column is missing, or the file is no CSV.
    """
    with open_text(path) as file:
        reader = csv.reader(file, skipinitialspace=True)
        header = next(_csv(path, reader), [])
        missing = [name for name in names if name not in header]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)}; its first line is {','.join(header)!r}")
        names = [*names, *(name for name in optional if name in header)]
        return _read(path, reader, names, [header.index(name) for name in names], len(header))


def read_words(path: Path, names: Sequence[str]) -> Rows:
    """Reads a file without a header whose lines are as many words, blanks between and perhaps after them.

    Args:
        path: the file.
        names: of its columns, in their order.
    """
    with open_text(path) as file:
        lines = (" ".join(line.split()) for line in file)
        reader = csv.reader(lines, delimiter=" ", quoting=csv.QUOTE_NONE)
        return _read(path, reader, names, range(len(names)), len(names))


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


def segment_ids(video_id: pd.Series, start: pd.Series, end: pd.Series) -> pd.Series:
    """`<video>_<start>_<end>`, the times as the file has them; two sentences of one segment are two clips."""
    clip_id = video_id + "_" + start + "_" + end
    again = clip_id.groupby(clip_id).cumcount()
    return clip_id.where(again == 0, clip_id + "_" + again.astype("str"))


def milliseconds(seconds: pd.Series) -> pd.Series:
    """`30.0` -> `"30000"`, as file names have it; 0 where the row has no number and is rejected anyway."""
    return (seconds.fillna(0) * 1000).round().clip(0, 1e15).astype("int64").astype("str")


def padded(seconds: pd.Series, width: int = 6) -> pd.Series:
    """`30.0` -> `"000030"`."""
    return seconds.fillna(0).clip(0, 1e12).astype("int64").astype("str").str.zfill(width)
