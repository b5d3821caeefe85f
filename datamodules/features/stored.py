"""Precomputed features: where the files of a dataset are, and the rows of one stretch of a video.

A file holds one video's vectors of one kind, [T, D] in float16 or float32: `.npy`, of which only the rows that are
wanted are read (memory map), or `.npz`, which is an archive and is read whole.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.errors import DataError
from datamodules.features.arrays import FeatureError, open_array
from datamodules.source.folders import Folder, walk
from datamodules.table import arrow
from datamodules.types import FeatureInputs

SUFFIXES = (".npy", ".npz")
CHECK_ROWS = 1 << 12
"""Rows that are looked at at a time."""


def index_features(root: Path, kinds: Sequence[str]) -> dict[str, dict[str, str]]:
    """The feature files below a folder, by kind and video id.

    A file is of a kind, in this order, if its name ends with `_<kind>`; if it lies in a folder `<kind>`, however
    deep; or if there is only one kind. Of several files of one video and kind the more clearly named counts, then
    the first by folder and name, so `.npy` before `.npz`. Links to folders are followed; hidden folders are not
    looked into.

    Args:
        root: the folder.
        kinds: e.g. `2d`, `3d`.

    Returns:
        Kind -> video id -> path.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: there is no such folder; name that of the features with data.inputs.features.root=FOLDER"
        )
    named: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    placed: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    # `x_clip_2d` is of the kind `clip_2d` before it is of `2d`.
    longest_first = sorted(kinds, key=len, reverse=True)
    linked: dict[str, list[Path]] = {kind: [] for kind in kinds}
    for folder in walk(root):
        parts = Path(folder.path).relative_to(root).parts
        home = next((part for part in reversed(parts) if part in placed), kinds[0] if len(kinds) == 1 else None)
        for name in set(folder.links) & set(kinds):
            linked[name].append(Path(folder.path, name))
        for stem, path in _feature_files(folder):
            kind = next((kind for kind in longest_first if stem.endswith(f"_{kind}")), None)
            if kind is not None:
                named[kind].setdefault(stem[: -len(kind) - 1], path)
            if home is not None:
                placed[home].setdefault(stem, path)
    # What a link names may have been visited above by another way, and each folder is visited once.
    for kind, links in linked.items():
        for folder in (folder for link in links for folder in walk(link)):
            for stem, path in _feature_files(folder):
                placed[kind].setdefault(stem, path)
    return {kind: placed[kind] | named[kind] for kind in kinds}


def find_features(inputs: FeatureInputs, default: Path, clips: pd.DataFrame) -> dict[str, pd.Series]:
    """Kind -> [n] path of each clip's feature file, missing where there is none; below `default` if `inputs` do not say
    where. It is called as the clip's video; or as the clip, where that is a recording of its own, of the several that
    were cut out of a video."""
    there = index_features(Path(inputs.root) if inputs.root else default, inputs.kinds)
    recording = (clips["start"] == 0) & np.isinf(clips["end"])

    def paths(of_name: dict[str, str]) -> pd.Series:
        names, files = (pa.array(part, pa.large_string()) for part in (of_name.keys(), of_name.values()))
        wanted = (arrow(clips[key], pa.large_string()) for key in ("clip_id", "video_id"))
        found = (files.take(pc.index_in(each, value_set=names)) for each in wanted)
        of_clip, of_video = (pd.Series(each, clips.index, dtype="str") for each in found)
        return of_clip.where(recording).fillna(of_video)

    return {kind: paths(there[kind]) for kind in inputs.kinds}


def _feature_files(folder: Folder) -> Iterator[tuple[str, str]]:
    """(Name without suffix, path) of each."""
    for name in folder.files:
        stem, suffix = os.path.splitext(name)
        if suffix in SUFFIXES:
            yield stem, os.path.join(folder.path, name)


def read_window(
    paths: Sequence[str], inputs: FeatureInputs, start: float, end: float, video_seconds: float | None = None
) -> np.ndarray:
    """The features of [start, end) seconds of a video.

    Of each kind these are the rows that `inputs.rows` says: int(start * rate) up to and with int(end * rate), AVLnet's
    slice (`youtube_dataloader.py`), which reaches past the end by up to one row; or from floor(start * rate) on and
    before ceil(end * rate) (Everything at Once `dataset/utils.py`, `accurate_borders`); or the same where the rate is
    the file's rows by the video's whole seconds (MCN `cvpr19_dataloader.py`, `adaptive_max_pool1d`). The fastest kind
    has one row a moment; row i of n becomes row i * m // n of the m of another kind, the nearest resizing of Everything
    at Once (`dataset/utils.py`, strategy `clip`; in integers, where torch's may be one row off by rounding). Then it is
    cut.

    Args:
        paths: one file a kind.
        inputs: kinds, rates, dims and frames.
        start: seconds.
        end: seconds; inf is the end of the features.
        video_seconds: how long the video is, for rows that are `pooled`.

    Returns:
        float32 [n, sum(dims)], n <= inputs.frames; n = 0 where some kind has no features in this window.

    Raises:
        FeatureError: a file cannot be used; of its values only those that are read are looked at.
    """
    if not 0 <= start <= end:
        raise ValueError(f"window from {start} to {end} s")
    arrays = [_open(path, dim) for path, dim in zip(paths, inputs.dims, strict=True)]
    if inputs.rows == "pooled":
        if video_seconds is None:
            raise ValueError("rows are pooled by a video's seconds, and there are none")
        whole = whole_seconds(video_seconds)
        spans = [_covering(len(array), start * len(array) / whole, end * len(array) / whole) for array in arrays]
    else:
        cut = _through if inputs.rows == "through" else _covering
        rated = zip(arrays, inputs.rates, strict=True)
        spans = [cut(len(array), min(start * rate, len(array)), min(end * rate, len(array))) for array, rate in rated]
    clock = len(spans[int(np.argmax(inputs.rates))])
    if not all(map(len, spans)):
        return np.empty((0, sum(inputs.dims)), np.float32)
    moments = np.arange(min(clock, inputs.frames))
    parts = [
        _rows(path, array, span.start + moments * len(span) // clock)
        for path, array, span in zip(paths, arrays, spans, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def check_features(path: str | os.PathLike[str], dim: int) -> int:
    """The number of rows of a file that can be used from first to last.

    Args:
        path: the file.
        dim: expected length of its vectors.

    Raises:
        FeatureError: it cannot be used.
    """
    array = _open(path, dim)
    for start in range(0, len(array), CHECK_ROWS):
        _check_finite(path, array[start : start + CHECK_ROWS])
    return len(array)


def seconds(paths: Sequence[str], inputs: FeatureInputs) -> float:
    """How long a video is by its feature files, one a kind: the shortest counts.

    Raises:
        FeatureError: a file cannot be used.
    """
    each = zip(paths, inputs.dims, inputs.rates, strict=True)
    return min(len(_open(path, dim)) / rate for path, dim, rate in each)


def whole_seconds(seconds: float) -> int:
    """The seconds of a video that are looked at one by one."""
    return max(1, int(seconds))


def _through(rows: int, start: float, end: float) -> range:
    """From the row in which a window begins through that in which it ends; both counted in rows."""
    return range(int(start), min(int(end) + 1, rows))


def _covering(rows: int, start: float, end: float) -> range:
    """The rows that have a part in a window."""
    return range(int(start), min(math.ceil(end), rows))


def _rows(path: str | os.PathLike[str], array: np.ndarray, index: np.ndarray) -> np.ndarray:
    # A slice of a memory map, then the rows: indexing the map itself by a list would go through it row by row.
    rows = np.asarray(array[index[0] : index[-1] + 1])[index - index[0]]
    _check_finite(path, rows)
    return rows.astype(np.float32)


def _check_finite(path: str | os.PathLike[str], rows: np.ndarray) -> None:
    if not np.isfinite(rows).all():
        raise FeatureError(path, "not finite")


def _open(path: str | os.PathLike[str], dim: int) -> np.ndarray:
    """[T, dim], memory-mapped if the file allows it."""
    array = open_array(path)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4):
        raise FeatureError(path, "wrong type", f"{array.dtype} instead of float16 or float32")
    if array.ndim != 2 or array.shape[1] != dim:
        pooled = "; this looks like one pooled vector, and one a moment is needed" if array.ndim == 1 else ""
        raise FeatureError(path, "wrong shape", f"{list(array.shape)} instead of [T, {dim}]{pooled}")
    return array
