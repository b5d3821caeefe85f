"""Titles of videos, by a table that the user puts beside a dataset's official files, as no dataset gives them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datamodules import source

if TYPE_CHECKING:
    import pandas as pd

TITLES = "titles.csv"
NAMES_OF_CLASSES = 0.5
"""Share of titles that may be no more than the names of their clips' classes."""


def titles_of(dataset: source.Source, table: pd.DataFrame) -> pd.Series:
    """The title of each clip's video, empty where the table has none.

    Args:
        dataset: which the clips are of.
        table: of the clips, with their video_id and labels.

    Raises:
        DataError: there is no such table, it has no title of these videos, or its titles are the names of the classes,
            which would give the labels away.
    """
    if dataset.narrated:
        raise source.DataError(
            f"{dataset.title} is narrated, and what is said is read: set data.inputs.text.reads=captions"
        )
    path = dataset.find_any(TITLES)
    if path is None:
        raise source.DataError(
            f"{dataset.title}: titles are read (data.inputs.text.reads), but there is no {TITLES} in {dataset.root}: "
            "write the videos' titles there, with the first line video_id,title"
        )
    rows = source.read_rows_by_header(path, ("video_id", "title"))
    known = dict(zip(rows["video_id"], rows["title"].str.split().str.join(" "), strict=True))
    title = table["video_id"].map(known).fillna("").astype("str")
    there = title != ""
    if len(table) and not there.any():
        example = table["video_id"].iloc[0]
        raise source.DataError(f"{path}: it has no title of any of the {len(table)} videos, as video_id={example}")
    leaked = int(np.sum(there & _are_names(title, table["labels"], dataset)))
    if leaked > NAMES_OF_CLASSES * there.sum():
        raise source.DataError(
            f"{path}: {leaked} of {there.sum()} titles are the names of the clips' classes, which would give the "
            "labels away; write the titles of the videos there"
        )
    return title


def _are_names(title: pd.Series, labels: pd.Series, dataset: source.Source) -> np.ndarray:
    """[clips] bool, whether a title is no more than the name of one of the clip's classes."""
    names = [_plain(text) for text in dataset.class_texts]
    own = ({names[label] for label in each} for each in labels)
    return np.array([_plain(text) in each for text, each in zip(title, own, strict=True)], dtype=bool)


def _plain(text: str) -> str:
    """Without capitals and what is neither letter nor digit."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())
