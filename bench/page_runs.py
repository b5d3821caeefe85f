"""What the folders of runs add to their records on the page: curves, scores by class, what is taken for what."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.records import Record

METRICS_CSV, PREDICTIONS, CLASSES = "metrics.csv", "predictions.parquet", "classes.json"
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
    import pyarrow.parquet as pq

    from bench.identity import file_hash

    if file_hash(path) != record.predictions_sha256:
        return None
    table = pq.read_table(path, columns=["classes", record.modality])
    score_NC = np.stack(table[record.modality].to_numpy())
    target_NC = np.zeros(score_NC.shape, bool)
    for row, present in enumerate(table["classes"].to_pylist()):
        target_NC[row, present] = True
    names = _class_names(folder / CLASSES, score_NC.shape[1])
    if task == "tagging":
        return {"score": "average precision", "names": names, **average_precisions(target_NC, score_NC)}
    return {"score": "accuracy", "names": names, **accuracies(target_NC, score_NC)}


def _class_names(path: Path, count: int) -> list[str]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        names = None
    if isinstance(names, list) and len(names) == count:
        return [str(name)[:200] for name in names]
    return [f"class {index}" for index in range(count)]


def average_precisions(target_NC: NDArray[np.bool_], score_NC: NDArray[np.floating]) -> dict[str, Any]:
    """`n` clips and `value` of each class; None for a class without clips."""
    from bench.metrics import Rankings

    ap_BC, _ = Rankings(target_NC, score_NC).measure(np.ones((len(target_NC), 1)))
    return {"n": target_NC.sum(0).tolist(), "value": [None if math.isnan(ap) else round(ap, 4) for ap in ap_BC[0]]}


def accuracies(target_NC: NDArray[np.bool_], score_NC: NDArray[np.floating]) -> dict[str, Any]:
    """`n` clips and top-1 accuracy `value` of each class, and what is taken for what.

    Tied classes share a clip, as they do in the board's metric. `matrix` [class][taken for] counts clips by the first
    of the best classes; of many classes there are only the commonest `pairs` (class, taken for, clips).
    """
    best_NC = score_NC == score_NC.max(1, keepdims=True)
    right_N = (best_NC & target_NC).sum(1) / best_NC.sum(1)
    n_C = target_NC.sum(0)
    hits_C = (target_NC * right_N[:, None]).sum(0)
    found: dict[str, Any] = {
        "n": n_C.tolist(),
        "value": [round(float(hits / n), 4) if n else None for hits, n in zip(hits_C, n_C, strict=True)],
    }
    count = len(n_C)
    confusion = np.bincount(target_NC.argmax(1) * count + score_NC.argmax(1), minlength=count**2).reshape(count, count)
    if count <= MATRIX:
        return found | {"matrix": confusion.tolist()}
    np.fill_diagonal(confusion, 0)
    commonest = np.argsort(-confusion.ravel(), kind="stable")[:PAIRS]
    pairs = [[int(at // count), int(at % count), int(confusion.ravel()[at])] for at in commonest]
    return found | {"pairs": [pair for pair in pairs if pair[2]]}
