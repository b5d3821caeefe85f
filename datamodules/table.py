"""A table that a loader's processes share instead of holding a copy each."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa


def arrow(column: pd.Series, type_: pa.DataType | None = None) -> pa.Array:
    """A column as one Arrow array; pandas keeps what was read in pieces in pieces."""
    array = pa.array(column, type_)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def arrow_table(table: pd.DataFrame) -> pa.Table:
    """A manifest's table as Arrow, its columns not copied."""
    return pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)


def pandas_table(table: pa.Table) -> pd.DataFrame:
    """The same again: lists stay Arrow's, text is pandas' `str`."""

    def type_of(type_: pa.DataType) -> Any:
        if pa.types.is_list(type_):
            return pd.ArrowDtype(type_)
        return pd.StringDtype(na_value=float("nan")) if pa.types.is_large_string(type_) else None

    return table.to_pandas(types_mapper=type_of)


class SharedTable:
    """Columns that travel to other processes as the name of a memory-mapped Arrow file.

    Args:
        table: the columns; strings and lists are Arrow arrays already, and are not copied.
    """

    def __init__(self, table: pd.DataFrame):
        self._table = arrow_table(table)
        self._folder: tempfile.TemporaryDirectory | None = None

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, name: str) -> bool:
        return name in self._table.column_names

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        return self._table[name]

    def value(self, name: str, row: int) -> Any:
        """One value, as a Python object."""
        return self._table[name][row].as_py()

    def row(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """Several values of a row, as Python objects."""
        return {name: self.value(name, row) for name in names}

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """The first time it is sent to another process it goes to the disk, until this process is done with it."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="avl-bench-")
            with pa.OSFile(self._file, "wb") as file, pa.ipc.new_file(file, self._table.schema) as writer:
                writer.write_table(self._table)
        return _open, (self._file,)

    @property
    def _file(self) -> str:
        assert self._folder is not None
        return str(Path(self._folder.name) / "table.arrow")


def _open(path: str) -> SharedTable:
    table = SharedTable.__new__(SharedTable)
    table._table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    table._folder = None
    return table
