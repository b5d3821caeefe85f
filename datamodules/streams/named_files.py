"""Files of clips beside their media: those that a dataset's official files name, and files of features."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from datamodules.source import Source
    from datamodules.streams.kind import Excluding


def require_column(table: pd.DataFrame, column: str, source: Source, setting: str) -> pd.Series:
    """The column.

    Args:
        table: the clips that the dataset lists.
        column: its name.
        source: the dataset.
        setting: where the column is named, e.g. `data.inputs.streams.caption.column`.

    Raises:
        DataError: the dataset has none of this name.
    """
    if column not in table:
        raise DataError(f"{setting}={column}: {source.title} has no such column; it has {', '.join(map(str, table))}")
    return table[column]


def find_named(
    table: pd.DataFrame, column: str, source: Source, exclusions: Excluding, what: str, setting: str
) -> pd.Series:
    """[n] the path of each clip's file, missing where there is none; excludes the clips for which none is named.

    Args:
        table: the clips.
        column: of paths, which are relative to the dataset's folder; empty where a clip has no file.
        source: the dataset.
        exclusions: of these clips.
        what: the file is, e.g. `spoken caption`, for the reasons.
        setting: as for `require_column`.

    Raises:
        DataError: the dataset has no such column.
    """
    named = require_column(table, column, source, setting).fillna("").astype("str")
    exclusions.add(f"no {what}", named == "")
    return (str(source.root) + os.sep + named).where(~named.str.startswith(os.sep), named).where(named != "")


def features_folder(root: str | None, source: Source, setting: str) -> str:
    """The folder below which feature files lie.

    Args:
        root: as the settings name it; None = the dataset's own folder.
        source: the dataset.
        setting: where it is named.

    Raises:
        DataError: there is none of this name.
    """
    folder = Path(root) if root else source.root
    if not folder.is_dir():
        raise DataError(f"{setting}={folder}: there is no such folder; name that of the features")
    return str(folder)
