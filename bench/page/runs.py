"""What the folders of runs add to their records on the page: curves, scores by class, what is taken for what."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.records.archive import Record
from bench.tasks import task_of
from datamodules.boards import Board

METRICS_CSV, PREDICTIONS = "metrics.csv", "predictions.parquet"
VALIDATED = "val/"
"""Begins the names of what is measured at the ends of epochs."""
CURVES = 12
POINTS = 200
"""Of a curve; more could not be distinguished on the screen."""


def evidence(records: Iterable[Record], boards: Mapping[str, Board], runs: Path) -> dict[str, Any]:
    """Record id -> `curves` and `classes`, of those whose run is among `runs`.

    Args:
        records: to look for.
        boards: by name.
        runs: `<method>/<stage>-<identity>/`.
    """
    folders = {path.name.rpartition("-")[2]: path for path in sorted(runs.glob("*/*-*/"))}
    found = {}
    for record in records:
        if (folder := folders.get(record.identity)) is None:
            continue
        content = {"curves": curves(folder / METRICS_CSV), "classes": classes(record, boards.get(record.board), folder)}
        if any(content.values()):
            found[record.id] = content
    return found


def curves(path: Path) -> dict[str, Any] | None:
    """`step` and the values of each logged name; None where nothing was logged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return None
    rows = thinned(rows)
    steps = [_number(row.get("step")) for row in rows]
    names = [name for name in (rows[0] if rows else ()) if name and name != "step"]
    names = sorted(names, key=lambda name: not name.startswith(VALIDATED))[:CURVES]
    series = {name: [_number(row.get(name)) for row in rows] for name in names}
    series = {name: values for name, values in series.items() if any(value is not None for value in values)}
    return {"step": steps, "series": series} if series and None not in steps else None


def thinned(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """About `POINTS` of the rows, the last one among them, and of those that were validated as many again."""
    validated = [
        i for i, row in enumerate(rows) if any(row[name] for name in row if (name or "").startswith(VALIDATED))
    ]
    chosen = {i for some in (range(len(rows)), validated) for i in some[:: max(1, math.ceil(len(some) / POINTS))]}
    return [row for i, row in enumerate(rows) if i in chosen or i == len(rows) - 1]


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def classes(record: Record, board: Board | None, folder: Path) -> dict[str, Any] | None:
    """What the board's task shows of the predictions that the record was made of; None where they are not at hand."""
    path = folder / PREDICTIONS
    if board is None or not (task := task_of(board)).class_score or not path.is_file():
        return None
    from bench.plan.identity import file_hash  # these import torch, which a page without predictions does without
    from bench.run.results import read_predictions

    if file_hash(path) != record.predictions_sha256:
        return None
    return task.run_page(record.modality, read_predictions(path, task.predictions))
