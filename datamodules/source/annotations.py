"""Annotations that are not the rows of a CSV: steps in time, a file for each video, and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa

from datamodules.errors import DataError
from datamodules.source.dataset import Official
from datamodules.source.official_text import read_text
from datamodules.source.rows import Rows, class_lists

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


def timed_steps(
    rows: Rows,
    clips: dict[str, Any],
    segments: Sequence[Iterable[Segment]],
    steps: Sequence[Sequence[int]],
    stems: Sequence[pd.Series] | None = None,
) -> Official:
    """`rows.official` of videos whose steps are to be found in time; the labels of a video are what is seen in it.

    Args:
        rows: a video each.
        clips: of `rows.official`, without labels.
        segments: of each row, what is annotated.
        steps: of each row, the classes that are to be found, in their order.
        stems: of `rows.official`.
    """
    labels = class_lists([sorted({label for label, _, _ in of_video}) for of_video in segments])
    official = rows.official({**clips, "labels": labels}, stems)
    found = dict(zip(clips["clip_id"], zip(segments, steps, strict=True), strict=True))
    ids = official.clips["clip_id"]
    table = pd.DataFrame(
        [(clip, *segment) for clip in ids for segment in found[clip][0]], columns=["clip_id", "label", "start", "end"]
    ).astype({"clip_id": "str", "label": np.int64, "start": np.float64, "end": np.float64})
    return replace(official, segments=table, steps=class_lists([found[clip][1] for clip in ids]))


def file_of(folder: Path, name: str, *suffixes: str) -> Path:
    """The file of a video in a folder that has one for each, with the first of the suffixes of which there is one.

    Raises:
        DataError: there is none.
    """
    for suffix in suffixes:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return path
    shown = suffixes[0] if len(suffixes) == 1 else f"{{{','.join(suffixes)}}}"
    raise DataError(f"no {folder.name}/{name}{shown}")


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Where each line of such a file that is not blank stands, as `folder/file:line`, and the line."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield f"{path.parent.name}/{path.name}:{number}", line


def read_json(path: Path, shape: str, take: Callable[[Any], T]) -> T:
    """What `take` makes of the content of a JSON file.

    Args:
        path: the file.
        shape: what it should hold, in words, for the error.
        take: may fail as Python does where a key is missing or a value is of another type.

    Raises:
        DataError: the file is no JSON, or `take` has failed.
    """
    try:
        return take(json.loads(read_text(path)))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not {shape}: {error!r}") from error


def rows_of(
    path: Path, names: Sequence[str], values: Iterable[Sequence[Any]], places: Sequence[str] | None = None
) -> Rows:
    """Rows that were read from JSON, which has no lines: faults are reported by the number of the row, from 1.

    Args:
        path: the file, or the folder of several.
        names: of the columns.
        values: of each row, which become text.
        places: where each row stands, as `lines_of` says it, of several files.
    """
    texts = [[str(value) for value in row] for row in values]
    columns = zip(*texts, strict=True) if texts else [()] * len(names)
    arrays = {
        name: pa.chunked_array([pa.array(column, pa.large_string())])
        for name, column in zip(names, columns, strict=True)
    }
    return Rows(path, arrays, np.arange(1, len(texts) + 1), [], places)
