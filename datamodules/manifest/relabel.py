"""Other labels for training clips than the official ones: PSLA's enhanced label sets, which its authors released.

Gong, Chung and Glass 2021 add parents and children of a clip's classes where a first network is sure of them. AST and
PSLA train on such a list on AudioSet-20K, PSLA on FSD50K, too. Evaluation always has the official labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pandas as pd

from datamodules.manifest.build import Manifest
from datamodules.manifest.exclusions import EXAMPLES
from datamodules.source import DataError, class_lists

UNLISTED = "not in data.train_labels_file"
"""The reason for which a clip without other labels is left out."""
_OFFSET = r"_\d+(?:\.\d+)?$"
"""The end of a file's name that says where the clip begins or ends in its video: seconds or milliseconds."""


def relabelled(manifest: Manifest, path: Path, codes: Sequence[str]) -> Manifest:
    """The clips of `path` with its labels; those that it does not list are left out, and counted.

    Args:
        manifest: of the official list.
        path: JSON, `{"data": [{"wav": "…/<clip>.flac", "labels": "/m/09x0r,/m/04rlf"}, …]}`. The file's name gives the
            clip: its id or its video's, with or without `Y` before and start and end after.
        codes: what such files call each class, in the order of the class index.

    Raises:
        DataError: the file is none of these, lists a clip twice, or has a label that is no class or no clip of these.
    """
    labels = _read(path, codes)
    table = manifest.table
    row = _rows(labels.index.to_series(index=range(len(labels))), table)
    known = row >= 0
    if not known.any():
        raise DataError(
            f"{path}: none of its {len(labels)} clips is one of the {len(table)} to train on, e.g. {labels.index[0]}; "
            f"is it another split's or dataset's list?"
        )
    if (twice := row[known].duplicated()).any():
        raise DataError(f"{path}: lists {table['clip_id'][row[known][twice].iloc[0]]} twice")
    of_row = pd.Series(labels.to_numpy()[known], index=row[known]).reindex(range(len(table)))
    listed = of_row.notna().to_numpy()
    kept = table[listed].reset_index(drop=True)
    kept["labels"] = class_lists(of_row[listed].tolist())
    excluded, examples = dict(manifest.excluded), dict(manifest.examples)
    if not listed.all():
        excluded[UNLISTED] = int((~listed).sum())
        examples[UNLISTED] = table["clip_id"][~listed].head(EXAMPLES).tolist()
    return replace(manifest, table=kept, excluded=excluded, examples=examples)


def _read(path: Path, codes: Sequence[str]) -> pd.Series:
    """File name without suffix -> sorted class indices."""
    try:
        entries = json.loads(path.read_bytes())["data"]
        names = [PurePosixPath(entry["wav"]).stem for entry in entries]
        texts = [entry["labels"] for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{path}: expected {{"data": [{{"wav": FILE, "labels": "CODE,CODE"}}, …]}} as PSLA\'s label sets have it '
            f"({type(error).__name__}: {error})"
        ) from error
    index = {code: number for number, code in enumerate(codes)}
    labels: list[list[int]] = []
    for name, text in zip(names, texts, strict=True):
        try:
            labels.append(sorted({index[code] for code in text.split(",")}))
        except KeyError as error:
            raise DataError(f"{path}: {name}: {error} is no class of this dataset") from None
    return pd.Series(labels, index=names, dtype=object)


def _rows(names: pd.Series, table: pd.DataFrame) -> pd.Series:
    """[n] the row of the clip that each file name names, -1 where it names none."""
    rows = pd.Series(range(len(table)))
    places = pd.concat([rows.set_axis(table["clip_id"]), rows.set_axis(table["video_id"])])
    places = pd.concat([places, places.set_axis("Y" + places.index)])
    places = places[~places.index.duplicated()]
    found = pd.Series(-1, index=names.index)
    for _ in range(3):  # as it is, without its end, without its start
        found = found.where(found >= 0, names.map(places).fillna(-1).astype("int64"))
        names = names.str.replace(_OFFSET, "", regex=True)
    return found
