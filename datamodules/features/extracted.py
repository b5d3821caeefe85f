"""Features that one stage of a method writes and another reads: every clip has [T, D] float16 vectors.

A folder of Arrow files, each with some thousand clips, written whole or not at all, so that a stage that was cut off
goes on with the clips that are in none. Readers map them into memory, which all processes share.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch import Tensor

from datamodules.features.stored import FeatureError
from datamodules.files import replacing

PART_BYTES = 128 << 20
"""Size of a file."""
ROWS = 1 << 12
"""That are copied at a time."""
_SHAPE = b"shape"


class FeatureWriter:
    """Collects clips' features and writes them in parts; as a context manager it writes the last one, too.

    Args:
        folder: of the parts of all processes.
        rank: this process; its files have names of their own.
    """

    def __init__(self, folder: Path, rank: int = 0):
        self.folder, self.rank = folder, rank
        self._clip_ids: list[str] = []
        self._features: list[np.ndarray] = []

    def add(self, clip_ids: Sequence[str], features_BTD: Tensor) -> None:
        """Takes [B, T, D] features.

        Raises:
            ValueError: where they are not finite in float16, naming the clip.
        """
        half_BTD = features_BTD.to("cpu", torch.float16).numpy()
        bad = ~np.isfinite(half_BTD).all((1, 2))
        if bad.any():
            raise ValueError(f"the features of {clip_ids[int(bad.argmax())]} are NaN or beyond float16")
        self._clip_ids += clip_ids
        self._features.append(half_BTD)
        if len(self._clip_ids) * half_BTD[0].nbytes >= PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what has been collected."""
        if not self._clip_ids:
            return
        features_NTD = np.concatenate(self._features)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(features_NTD.ravel()), features_NTD[0].size)
        table = pa.table({"clip_id": pa.array(self._clip_ids, pa.large_string()), "features": rows})
        shape = ",".join(map(str, features_NTD.shape[1:])).encode()
        table = table.replace_schema_metadata({_SHAPE: shape})
        place = self.folder / f"{self.rank}-{len(parts(self.folder)):06d}-{os.urandom(4).hex()}.arrow"
        with replacing(place) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
            writer.write_table(table)
        self._clip_ids, self._features = [], []

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            self.flush()


def parts(folder: Path) -> list[Path]:
    """The files of a folder, in a fixed order."""
    return sorted(folder.glob("*.arrow"))


def extracted_ids(folder: Path) -> pd.Index:
    """The clips whose features are there, in the order of the files and their rows."""
    columns = [_part(path)["clip_id"].to_pandas() for path in parts(folder)]
    return pd.Index(pd.concat(columns) if columns else [])


class ExtractedFeatures:
    """The features of the clips of a manifest.

    Args:
        folder: the parts.
        clip_ids: of the manifest, in its order.
    """

    def __init__(self, folder: Path, clip_ids: pd.Series):
        self.parts = parts(folder)
        ids = extracted_ids(folder)
        found = ids.drop_duplicates().get_indexer(clip_ids)
        first = np.flatnonzero(~ids.duplicated())  # a clip may have been written twice
        rows = np.append(first, 0)[found]  # of any clip for those that are not there
        ends = np.cumsum([len(_part(path)) for path in self.parts], dtype=np.int64)
        self._part = np.searchsorted(ends, rows, side="right")
        self._row = np.where(found >= 0, rows - np.r_[0, ends][self._part], -1)
        self._folder = folder

    def __getitem__(self, index: int) -> Tensor:
        """[T, D] float32 of the manifest's row.

        Raises:
            FeatureError: the clip could not be read when features were extracted.
        """
        if self._row[index] < 0:
            raise FeatureError(self._folder, "missing", "the clip could not be read when features were extracted")
        table = _part(self.parts[self._part[index]])
        row = table["features"].chunk(0)[int(self._row[index])].values.to_numpy()
        return torch.from_numpy(row.reshape(_shape(table)).astype(np.float32))

    def together(self) -> tuple[np.ndarray, np.ndarray]:
        """(the rows of the manifest whose features are there, [N], their features, [N, T, D] float32).

        The one array is all the memory that it takes, 8.2 GB for 2 million clips of 1,024 numbers: the files are mapped
        into memory, which the system takes back where it needs it.
        """
        rows = np.flatnonzero(self._row >= 0)
        shape = _shape(_part(self.parts[0])) if len(rows) else (0, 0)
        features_NTD = np.empty((len(rows), *shape), np.float32)
        for number, path in enumerate(self.parts):
            here = np.flatnonzero(self._part[rows] == number)
            stored_MTD = _part(path)["features"].chunk(0).values.to_numpy().reshape(-1, *shape)
            for first in range(0, len(here), ROWS):
                some = here[first : first + ROWS]
                features_NTD[some] = stored_MTD[self._row[rows[some]]]
        return rows, features_NTD


def _shape(part: pa.Table) -> tuple[int, ...]:
    """(T, D)."""
    return tuple(map(int, part.schema.metadata[_SHAPE].split(b",")))


@cache
def _part(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
