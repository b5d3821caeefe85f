"""What several datasets do with their annotations: files of rows' own, steps in time, and JSON instead of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from datamodules.errors import DataError
from datamodules.source.rows import Rows

T = TypeVar("T")

Segment = tuple[int, float, float]
"""Class, start and end in seconds."""


def read_each(rows: Rows, read: Callable[..., T], *columns: Iterable[Any], otherwise: T) -> list[T]:
    """What `read` makes of each row, such as of a file of its own.

    Args:
        rows: those for which it raises a `DataError` are rejected, with what it says.
        read: called with a row's values of the columns.
        columns: each aligned with the rows.
        otherwise: what stands for a row that is rejected.
    """
    found: list[T] = []
    faults = pd.Series(None, index=range(len(rows)), dtype="str")
    for row, values in enumerate(zip(*columns, strict=True)):
        try:
            found.append(read(*values))
        except DataError as error:
            found.append(otherwise)
            faults[row] = str(error)
    rows.reject(faults.notna(), faults)
    return found


def segments_table(clips: Iterable[str], segments: Mapping[str, Iterable[Segment]]) -> pd.DataFrame:
    """`Official.segments` of these clips, in their order."""
    rows = [(clip, *segment) for clip in clips for segment in segments[clip]]
    table = pd.DataFrame(rows, columns=["clip_id", "label", "start", "end"])
    return table.astype({"clip_id": "str", "label": np.int64, "start": np.float64, "end": np.float64})


def rows_of(path: Path, columns: Mapping[str, Sequence[str]], numbers: np.ndarray | None = None) -> Rows:
    """Rows that were read from JSON, which has no lines: faults are reported by the number of the row, from 1.

    Args:
        path: the file.
        columns: name -> its values.
        numbers: [rows] of the rows, where these are some of several; default: 1, 2, ….
    """
    arrays = {name: pa.chunked_array([pa.array(column, pa.large_string())]) for name, column in columns.items()}
    count = len(next(iter(columns.values())))
    return Rows(path, arrays, np.arange(1, count + 1) if numbers is None else numbers, [])
