"""Records and published numbers -> what the page shows, as JSON. Pure functions.

There are two parts: `boards`, and `runs`, which the page reads when it first needs one. Both are columns, and what many
rows say alike is there once, so that 10,000 records make a small page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.published import PublishedMethod
from bench.records.record import MetricValue, Record
from bench.tables.board_table import BoardTable, Published
from bench.tables.formats import PAPERS, device_hours, legend
from bench.tables.row import Row
from bench.tasks import metric_infos

EXACT = 2**53
"""JavaScript's numbers are exact up to here; larger ones are shown as text."""

Json = Any


@dataclass(frozen=True)
class PageData:
    """What the page shows."""

    boards: Json
    runs: Json


@dataclass(frozen=True)
class MethodText:
    """What a method's README says of it."""

    title: str
    idea: tuple[str, ...] = ()
    """Its first paragraphs and list items, as plain text."""


def page_data(
    tables: Iterable[BoardTable],
    records: Sequence[Record],
    papers: Sequence[PublishedMethod],
    methods: Mapping[str, MethodText],
    command: Callable[[Record], str],
    evidence: Mapping[str, Json],
) -> PageData:
    """All that the page shows.

    Args:
        tables: of all boards, either of real or of made-up data.
        records: of these tables, whole.
        papers: with their published numbers.
        methods: those that can be run.
        command: what repeats a record.
        evidence: record id -> what its run's folder adds: curves, per-class scores.
    """
    tables = [table for table in tables if not table.empty]
    number = {record.id: index for index, record in enumerate(records)}
    return PageData(
        boards={
            "sample": any(record.sample for record in records),
            "metrics": {
                name: {"label": m.label, "better": m.better, "percent": m.percent, "decimals": m.decimals}
                for name, m in {**metric_infos(), **{n: i for table in tables for n, i in table.info.items()}}.items()
            },
            "boards": [_board(table, number) for table in tables],
            "methods": _methods(tables, papers, methods),
        },
        runs={
            **_runs(records, command),
            "evidence": {number[name]: content for name, content in evidence.items() if name in number},
        },
    )


def columns(rows: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """Rows with the same keys -> key -> all values, packed."""
    return {name: pack([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def pack(values: Sequence[Json]) -> Json:
    """The values, or where many are alike `{"of": those that differ, "at": which one each is}`."""
    texts = [json.dumps(value, sort_keys=True) for value in values]
    place = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    if 2 * len(place) > len(texts):
        return list(values)
    return {"of": [json.loads(text) for text in place], "at": [place[text] for text in texts]}


def shown(value: Json) -> Json:
    """A value of a record, with numbers as text that JavaScript would change."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        return str(value)
    if isinstance(value, Mapping):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def _board(table: BoardTable, number: Mapping[str, int]) -> Json:
    board = table.board
    return {
        "name": board.name,
        "dataset": board.dataset,
        "split": board.split,
        "task": board.task.name,
        "metrics": list(table.metrics),
        "legend": [line for line in legend(table) if line != PAPERS],  # the page marks them in its own words
        "rows": columns(
            [
                _published(table, line) if isinstance(line, Published) else _row(table, line, number)
                for line in table.lines
            ]
        ),
        "size": len(table.lines),
    }


def _row(table: BoardTable, row: Row, number: Mapping[str, int]) -> Json:
    record = row.newest
    values: Json = {}
    for name in table.metrics:
        cell = row.cells.get(name)
        low, high = cell.interval if cell else (None, None)
        values |= {
            name: cell and cell.value,
            f"{name} low": low,
            f"{name} high": high,
            f"{name} std": cell and cell.std,
        }
    return {
        "kind": "measured",
        "rank": row.rank,
        "method": record.method,
        "label": ", ".join(filter(None, (record.variant, record.preset))),
        "stage": row.stage,
        "modality": record.modality,
        **values,
        "printed": None,
        "chance": record.chance.get(table.board.main),
        "n": shown(row.n),
        "coverage": row.coverage,
        "enough": row.enough,
        "pretraining": row.pretraining,
        "parameters": record.cost.parameters,
        "hours": device_hours(row),
        "seeds": row.seeds,
        "folds": row.folds,
        "commit": (record.commit or "")[:8],
        "dirty": row.dirty,
        "date": record.created.date().isoformat(),
        "remarks": list(row.remarks),
        "where": "",
        "source": "",
        "runs": [number[each.id] for each in row.records],
        "newest": number[record.id],
    }


def _published(table: BoardTable, line: Published) -> Json:
    """The same keys as of `_row`; what a paper does not say is None."""
    row = line.row
    values = {
        f"{name}{part}": line.value(name) if not part else None
        for name in table.metrics
        for part in ("", " low", " high", " std")
    }
    empty = ("rank", "chance", "n", "coverage", "hours", "seeds", "folds", "dirty", "newest")
    return {
        "kind": "published",
        **dict.fromkeys(empty),
        "enough": True,
        "method": line.method.name,
        "label": row.variant,
        "stage": "",
        "modality": row.modality,
        **values,
        "printed": {name: printed(name, value) for name, value in row.metrics.items()},
        "pretraining": row.pretraining,
        "parameters": row.parameters,
        "commit": "",
        "date": "",
        "remarks": [],
        "where": f"{row.place} · arXiv {line.method.arxiv}",
        "source": "; ".join(filter(None, (row.source, row.note))),
        "runs": [],
    }


def printed(name: str, value: float) -> str:
    """A published value with all its digits, and with the zeros that YAML drops where tables show them."""
    full = f"{value:.12g}"
    info = metric_infos().get(name)
    padded = f"{value:.{info.decimals}f}" if info and info.percent else full
    return padded if float(padded) == value else full


def _methods(
    tables: Sequence[BoardTable], papers: Sequence[PublishedMethod], methods: Mapping[str, MethodText]
) -> Json:
    """Name -> what is known of it; by name."""
    by_name = {paper.name: paper for paper in papers}
    measured = {row.newest.method for table in tables for row in table.rows}
    return {
        name: {
            "title": methods[name].title if name in methods else by_name[name].title if name in by_name else "",
            "idea": list(methods[name].idea) if name in methods else [],
            "runnable": name in methods,
            "paper": _paper(by_name[name]) if name in by_name else None,
        }
        for name in sorted({*by_name, *methods, *measured})
    }


def _paper(paper: PublishedMethod) -> Json:
    return {
        "title": paper.title,
        "arxiv": paper.arxiv,
        "venue": paper.venue,
        "note": paper.note,
        "recalled": sum(not row.verified for row in paper.rows),
        "rows": [
            {
                "benchmark": row.benchmark,
                "board": row.board,
                "modality": row.modality,
                "variant": row.variant,
                "metrics": {name: printed(name, value) for name, value in row.metrics.items()},
                "pretraining": row.pretraining,
                "parameters": row.parameters,
                "place": row.place,
                "source": row.source,
                "note": row.note,
            }
            for row in paper.rows
            if row.verified
        ],
    }


def _runs(records: Sequence[Record], command: Callable[[Record], str]) -> Json:
    """`rows`, and the `parts` of their configurations, which most runs share with others."""
    place: dict[str, int] = {}
    rows = []
    for record in records:
        parts = [
            [name, place.setdefault(json.dumps(part, sort_keys=True), len(place))]
            for name, part in _config_parts(shown(record.config))
        ]
        rows.append(_run(record) | {"config": parts, "command": command(record)})
    return {"rows": columns(rows), "parts": [json.loads(part) for part in place]}


def _config_parts(config: Mapping[str, Json]) -> Iterable[tuple[str, Json]]:
    for name, value in config.items():
        if name == "stages" and isinstance(value, Mapping):
            yield from ((f"stages.{stage}", settings) for stage, settings in value.items())
        else:
            yield name, value


def _run(record: Record) -> Json:
    left_out = {
        "schema_version",
        "metrics",
        "created",
        "sample",
        "config",
        "settings",
        "board_definition",
        "board_metrics",
    }
    content = record.model_dump(mode="json", exclude=left_out)
    return shown(
        content
        | {
            "seed": str(record.seed),
            "created": record.created.strftime("%Y-%m-%d %H:%M UTC"),
            "metrics": {name: _triple(value) for name, value in record.metrics.items()},
        }
    )


def _triple(metric: MetricValue) -> list[float]:
    return [metric.value, metric.low, metric.high]
