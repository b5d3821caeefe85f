"""The boards for other programs: one Parquet file of all of them, and model cards whose results hubs read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import EvalResult, ModelCardData

from bench.errors import UserError
from bench.records.record import ShownMetric
from bench.tables.board_table import BoardTable, Published
from bench.tables.boards import current_tables
from bench.tables.formats import SAMPLE_NOTICE, shown
from bench.tables.row import Row
from bench.tasks import MetricInfo, task_of
from datamodules.files import replacing

BOARDS = "boards.parquet"
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("board", "dataset", "split", "task", "data", "kind")),
        ("rank", pa.int32()),
        *((name, pa.string()) for name in ("method", "variant", "preset", "stage", "settings", "modality", "metric")),
        *((name, pa.float64()) for name in ("value", "low", "high", "std", "chance")),
        *((name, pa.int64()) for name in ("n", "seeds", "folds")),
        ("coverage", pa.float64()),
        ("pretraining", pa.string()),
        ("parameters", pa.int64()),
        ("dirty", pa.bool_()),
        *((name, pa.string()) for name in ("commit", "date", "remarks", "place", "source")),
    ]
)
"""A row a metric of a board's line. Values are fractions where tables show percent."""


def export(leaderboards: Path, folder: Path) -> list[Path]:
    """Writes `boards.parquet`, with real and sample boards marked in `data`, and a card a method with real records.

    Returns:
        The files.

    Raises:
        UserError: there is nothing to export.
    """
    real, made_up = current_tables(leaderboards, sample=False), current_tables(leaderboards, sample=True)
    rows = [row for table in (*real, *made_up) for row in rows_of(table)]
    if not rows:
        raise UserError(f"{leaderboards} holds neither records nor published numbers")
    with replacing(folder / BOARDS) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary)
    methods = sorted({row.newest.method for table in real for row in table.rows})
    cards = {folder / f"{method}.md": card(method, real) for method in methods}
    for path, text in cards.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / BOARDS, *cards]


def rows_of(table: BoardTable) -> Iterable[dict[str, Any]]:
    """A row a metric of each line, as `SCHEMA` has them."""
    board = table.board
    start = {
        "board": board.name,
        "dataset": board.dataset,
        "split": board.split,
        "task": board.task.name,
        "data": "made-up sample" if table.sample else "real",
    }
    for line in table.lines:
        known = _published(line) if isinstance(line, Published) else _measured(line)
        for metric in table.metrics:
            scores = _scores(line, metric)
            if scores:
                yield {**start, **known, "metric": metric, **scores}


def _scores(line: Row | Published, metric: str) -> dict[str, float | None]:
    if isinstance(line, Published):
        value = line.value(metric)
        return {} if value is None else {"value": value}
    cell = line.cells.get(metric)
    if cell is None:
        return {}
    low, high = cell.interval
    return {"value": cell.value, "low": low, "high": high, "std": cell.std, "chance": line.newest.chance.get(metric)}


def _measured(row: Row) -> dict[str, Any]:
    record = row.newest
    return {
        "kind": "measured",
        "rank": row.rank,
        **{name: getattr(record, name) for name in ("method", "variant", "preset", "stage", "modality", "commit")},
        **{name: getattr(row, name) for name in ("n", "seeds", "folds", "coverage", "pretraining", "dirty")},
        "settings": " ".join(row.settings),
        "parameters": record.cost.parameters,
        "date": record.created.date().isoformat(),
        "remarks": "; ".join(row.remarks),
    }


def _published(line: Published) -> dict[str, Any]:
    return {
        "kind": "published",
        "method": line.method.name,
        **{name: getattr(line.row, name) for name in ("variant", "modality", "pretraining", "parameters", "place")},
        "source": line.row.source,
        "remarks": line.row.note,
    }


def card(method: str, tables: Iterable[BoardTable]) -> str:
    """A model card: its front matter has the `model-index` that hubs read, its text says the same to people.

    Raises:
        UserError: for sample boards; made-up numbers do not leave this machine.
    """
    results, lines = [], []
    for table in tables:
        if table.sample:
            raise UserError(f"{table.board.name}: {SAMPLE_NOTICE}")
        for row in table.rows:
            if row.newest.method == method:
                results += [_result(table, row, metric) for metric in table.metrics if metric in row.cells]
                lines.append(f"- `{table.board.name}`, {_name(row)}, {row.n} clips: {_score_text(table, row)}")
    data = ModelCardData(model_name=method, eval_results=results, library_name="avl-bench", tags=["avl-bench"])
    head = f"# {method}\n\nMeasured by AVL-Bench; values are in percent where it has percent."
    return f"---\n{data.to_yaml()}\n---\n\n{head}\n\n" + "\n".join(lines) + "\n"


def _name(row: Row) -> str:
    record = row.newest
    return ", ".join(filter(None, (record.variant, record.preset, row.stage, record.modality)))


def _score_text(table: BoardTable, row: Row) -> str:
    """`top-1 87.8 (chance 10.0), top-5 99.2 (chance 50.0) (95 % of the clips)`."""
    scores = []
    for name, info in table.info.items():
        if name in row.cells:
            chance = row.newest.chance.get(name)
            beside = "" if chance is None else f" (chance {shown(info, chance)})"
            scores.append(f"{info.label} {shown(info, row.cells[name].value)}{beside}")
    return f"{', '.join(scores)} ({'; '.join(row.remarks)})" if row.remarks else ", ".join(scores)


def _result(table: BoardTable, row: Row, metric: str) -> EvalResult:
    board, info = table.board, table.info[metric]
    chance = {
        name: _rounded(table.info[name], value) for name, value in row.newest.chance.items() if name in table.info
    }
    return EvalResult(
        task_type=task_of(board).hub_name(row.newest.modality),
        dataset_type=board.dataset,
        dataset_name=f"{board.name} ({_name(row)})",
        dataset_split=board.split,
        dataset_args={
            "n": row.n,
            "coverage": row.coverage,
            "protocol_version": board.version,
            **({"chance": chance} if chance else {}),  # of each metric: hubs keep one of these for all of a row's
            **({"remarks": list(row.remarks)} if row.remarks else {}),
        },
        metric_type=metric,
        metric_name=info.label,
        metric_value=_rounded(info, row.cells[metric].value),
    )


def _rounded(info: MetricInfo | ShownMetric, value: float) -> float:
    """As people read it, percent where it has percent, with two decimals more."""
    return round(value * (100 if info.percent else 1), info.decimals + 2)
