"""AudioSet's ontology (`ontology.json` of audioset/ontology): which classes of sound are kinds of which others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.source import DataError, read_json

ROOT = ""
"""Above all classes that are below none, so that any two are some way apart."""


def neighbours(path: Path) -> dict[str, set[str]]:
    """Machine id -> those of the classes right above and below it; a few classes are below several.

    Raises:
        DataError: the file is not the ontology, or a child that it names has no entry.
    """
    children = read_json(path, "a list of objects with id and child_ids", _children)
    below = {child for each in children.values() for child in each}
    if strange := sorted(below - children.keys()):
        raise DataError(f"{path}: {strange[0]} is named as a child, and has no entry")
    found: dict[str, set[str]] = {ROOT: set(), **{code: set() for code in children}}
    for parent, each in (*children.items(), (ROOT, sorted(children.keys() - below))):
        for child in each:
            found[parent].add(child)
            found[child].add(parent)
    return found


def _children(content: Any) -> dict[str, list[str]]:
    return {str(entry["id"]): [str(child) for child in entry["child_ids"]] for entry in content}


def distances(path: Path, codes: Sequence[str]) -> NDArray[np.int_]:
    """[C, C] edges on the shortest way from class to class, up and down.

    Args:
        path: `ontology.json`.
        codes: machine ids of the classes.

    Raises:
        DataError: as `neighbours`, or a class has no entry.
    """
    edges = neighbours(path)
    if strange := [code for code in codes if code not in edges]:
        raise DataError(f"{path}: no entry {strange[0]}; is it the ontology of these {len(codes)} classes?")
    ways = (_steps_from(code, edges) for code in codes)
    return np.array([[way[code] for code in codes] for way in ways])


def _steps_from(start: str, edges: dict[str, set[str]]) -> dict[str, int]:
    """Edges to each class, breadth first."""
    steps, waiting = {start: 0}, deque([start])
    while waiting:
        here = waiting.popleft()
        unseen: Iterable[str] = edges[here] - steps.keys()
        steps |= dict.fromkeys(unseen, steps[here] + 1)
        waiting.extend(unseen)
    return steps
