"""What the folders of runs add to their records on the page: curves, scores by class, what is taken for what."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.records.archive import Record

METRICS_CSV, PREDICTIONS = "metrics.csv", "predictions.parquet"
CURVES = 12
POINTS = 200
"""Of a curve; more cannot be told apart."""
MATRIX = 60
"""Classes up to which the whole matrix of confusions is shown; of more the pairs below."""
PAIRS = 40


def evidence(records: Iterable[Record], tasks: dict[str, str], runs: Path) -> dict[str, Any]:
    """Record id -> `curves` and `classes`, of those whose run is among `runs`.

    Args:
        records: to look for.
        tasks: board -> its task.
        runs: `<method>/<stage>-<identity>/`.
    """
    folders = {path.name.rpartition("-")[2]: path for path in sorted(runs.glob("*/*-*/"))}
    found = {}
    for record in records:
        if (folder := folders.get(record.identity)) is None:
            continue
        content = {"curves": curves(folder / METRICS_CSV), "classes": classes(record, tasks.get(record.board), folder)}
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
    rows = rows[:: math.ceil(len(rows) / POINTS)] + rows[-1:] if len(rows) > POINTS else rows
    steps = [_number(row.get("step")) for row in rows]
    names = [name for name in (rows[0] if rows else ()) if name and name != "step"][:CURVES]
    series = {name: [_number(row.get(name)) for row in rows] for name in names}
    series = {name: values for name, values in series.items() if any(value is not None for value in values)}
    return {"step": steps, "series": series} if series and None not in steps else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def classes(record: Record, task: str | None, folder: Path) -> dict[str, Any] | None:
    """Scores by class from the very predictions that the record was made of; None where they are not at hand."""
    path = folder / PREDICTIONS
    if task not in ("classification", "tagging") or not path.is_file():
        return None
    from bench.plan.identity import file_hash  # these import torch, which a page without predictions does without
    from bench.run.results import read_predictions

    if file_hash(path) != record.predictions_sha256:
        return None
    predictions = read_predictions(path)
    target_NC, score_NC = predictions.target > 0, predictions.scores[record.modality]
    names = predictions.classes or [f"class {number}" for number in range(score_NC.shape[1])]
    if task == "tagging":
        return {"score": "average precision", "names": list(names), **average_precisions(target_NC, score_NC)}
    return {"score": "accuracy", "names": list(names), **accuracies(target_NC, score_NC)}


def average_precisions(target_NC: NDArray[np.bool_], score_NC: NDArray[np.floating]) -> dict[str, Any]:
    """`n` clips and `value` of each class; None for a class without clips."""
    from bench.tasks.metrics import average_precision

    return _by_class(target_NC, average_precision(target_NC, score_NC))


def accuracies(target_NC: NDArray[np.bool_], score_NC: NDArray[np.floating]) -> dict[str, Any]:
    """`n` clips and top-1 accuracy `value` of each class, and what is taken for what.

    `matrix` [class][taken for] counts clips, by the first of classes that share the best score; of many classes there
    are only the commonest `pairs` (class, taken for, clips).
    """
    from bench.tasks.metrics import top_k

    label_N, count = target_NC.argmax(1), target_NC.shape[1]
    with np.errstate(invalid="ignore"):  # classes without clips
        found = _by_class(target_NC, top_k(label_N, score_NC, 1) @ target_NC / target_NC.sum(0))
    taken = np.bincount(label_N * count + score_NC.argmax(1), minlength=count**2).reshape(count, count)
    if count <= MATRIX:
        return found | {"matrix": taken.tolist()}
    np.fill_diagonal(taken, 0)
    commonest = np.argsort(-taken, axis=None, kind="stable")[:PAIRS]
    pairs = [[int(at // count), int(at % count), int(taken.flat[at])] for at in commonest]
    return found | {"pairs": [pair for pair in pairs if pair[2]]}


def _by_class(target_NC: NDArray[np.bool_], value_C: NDArray[np.floating]) -> dict[str, Any]:
    values = [round(float(value), 4) if math.isfinite(value) else None for value in value_C]
    return {"n": target_NC.sum(0).tolist(), "value": values}
