"""A board's table as text: CSV for machines, Markdown for GitHub, rich for the terminal."""

from __future__ import annotations

import csv
import io
import itertools
import re
import statistics
from functools import lru_cache

from rich import box
from rich.table import Table
from rich.text import Text

from bench.records.record import ShownMetric
from bench.tables.board_table import BoardTable, Published, coverage_text
from bench.tables.row import LEAST_COVERAGE, Cell, Row
from bench.tasks import MetricInfo, task_of

SAMPLE_NOTICE = (
    "Made-up sample data. These numbers show that the code learns; they say nothing about how good a method is "
    "and must not be compared with published results."
)
PAPERS = (
    "paper: a number as its paper prints it, not measured here; its clips, copies of the data and protocol may "
    "differ from those of the rows with a rank."
)
MARKDOWN_ROWS = 500
"""The best of a board. More make a page that nobody reads and few browsers like; the CSV has them all."""

MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", **{mark: f"\\{mark}" for mark in r"\`*[]|~"}})
UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
LINK = re.compile(r"(?i)(www)(\.)|(https?)(:)")


def shown(info: MetricInfo | ShownMetric, value: float) -> str:
    """A metric's value in its unit and with its decimals."""
    return f"{value * (100 if info.percent else 1):.{info.decimals}f}"


def _title(info: MetricInfo | ShownMetric) -> str:
    return f"{info.label} {'↑' if info.better == 'higher' else '↓'}"


def _cell(info: MetricInfo | ShownMetric, cell: Cell | None) -> str:
    """`45.9 [45.1, 46.7]`, the interval over clips; with several seeds or folds also ` ± 0.4`, their spread."""
    if cell is None:
        return "–"
    low, high = cell.interval
    spread = "" if cell.std is None else f" ± {shown(info, cell.std)}"
    return f"{shown(info, cell.value)} [{shown(info, low)}, {shown(info, high)}]{spread}"


def _method(row: Row) -> str:
    record = row.newest
    return f"{record.method} ({', '.join(filter(None, (record.variant, record.preset)))})"


def _short(number: float | None) -> str:
    """1234567 -> `1.23 M`."""
    if number is None:
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.3g}"


def device_hours(row: Row) -> float | None:
    """Of one seed: the mean over the row's records, parents included where that is known."""
    costs = [record.cost for record in row.records]
    hours = [cost.device_hours if cost.total_device_hours is None else cost.total_device_hours for cost in costs]
    known = [hour for hour in hours if hour is not None]
    return statistics.fmean(known) if known else None


def _commit(row: Row) -> str:
    """The newest record's commit; `*` if any of the row's records comes from a tree with uncommitted changes."""
    return (row.newest.commit or "none")[:8] + ("*" if row.dirty else "")


def _columns(table: BoardTable) -> list[str]:
    main, *others = map(_title, table.info.values())
    metrics = [main, "chance", *others]
    after = ["n", "coverage", "pretraining", "parameters", "device-hours", "seeds", "commit", "date", "remarks"]
    return ["#", "method", "stage", "modality", *metrics, *after]


def _texts(table: BoardTable, row: Row) -> list[str]:
    """The row as a reader sees it, one text for each of `_columns`."""
    record = row.newest
    main, *others = (_cell(info, row.cells.get(name)) for name, info in table.info.items())
    chance = record.chance.get(table.board.main)
    metrics = [main, "–" if chance is None else shown(table.info[table.board.main], chance), *others]
    return [
        "–" if row.rank is None else str(row.rank),
        _method(row),
        row.stage,
        record.modality,
        *metrics,
        str(row.n),
        coverage_text(row.coverage),
        row.pretraining or "–",
        _short(record.cost.parameters),
        _short(device_hours(row)),
        f"{row.seeds}" if row.folds == 1 else f"{row.seeds} × {row.folds} folds",
        _commit(row),
        record.created.date().isoformat(),
        "; ".join(row.remarks),
    ]


def _published_texts(table: BoardTable, line: Published) -> list[str]:
    """The same of what a paper says."""
    values = {name: line.value(name) for name in table.metrics}
    info = table.info
    known = {
        "#": "paper",
        "method": f"{line.method.name}: {line.row.variant}",
        "modality": line.row.modality,
        "pretraining": line.row.pretraining or "–",
        "parameters": _short(line.row.parameters),
        "commit": f"arXiv {line.method.arxiv}",
        "remarks": line.remark,
        **{_title(info[name]): shown(info[name], value) for name, value in values.items() if value is not None},
    }
    return [known.get(column, "–") for column in _columns(table)]


def legend(table: BoardTable) -> list[str]:
    """What must be known to read a board's table, line by line."""
    board, task = table.board, task_of(table.board)
    lines = [
        f"{board.dataset}, split {board.split}, {task.title}; sorted by {table.info[board.main].label}; "
        f"protocol version {board.version}.",
        f"[low, high]: 95 % interval over {task.unit}. ±: standard deviation over seeds or folds. Chance: what "
        f"a random scorer gets. Coverage: share of the official clips that were scored; below "
        f"{coverage_text(LEAST_COVERAGE)} a row has no rank. Device-hours include the stages before. *: the tree had "
        "uncommitted changes.",
    ]
    if table.published:
        lines.append(PAPERS)
    if task.rule:
        lines.append(task.rule)
    return lines + [f"Not shown: {row.text}." for row in table.hidden]


@lru_cache(maxsize=4096)
def escape(text: str) -> str:
    """Text that GitHub shows as it is, in a table cell: no markup, no HTML, no links, one line."""
    text = " ".join(text.split()).translate(MARKUP)
    if "_" in text:
        text = UNDERSCORE.sub(r"\\_", text)
    # GitHub makes links of these by itself; an entity that is not seen stops it.
    return LINK.sub(r"\1\3&#8205;\2\4", text) if "." in text or ":" in text else text


def to_markdown(table: BoardTable) -> str:
    """The board as a GitHub page, of its best rows."""
    lines = [f"# {escape(table.board.name)}", ""]
    if table.sample:
        lines += [f"> **{SAMPLE_NOTICE}**", ""]
    columns = _columns(table)
    right = {"#", "chance", "n", "coverage", "parameters", "device-hours", "seeds", *map(_title, table.info.values())}
    lines.append("| " + " | ".join(map(escape, columns)) + " |")
    lines.append("|" + "|".join(" ---: " if column in right else " --- " for column in columns) + "|")
    main = columns.index(_title(table.info[table.board.main]))
    shown_lines = table.lines[:MARKDOWN_ROWS]
    for line in shown_lines:
        if isinstance(line, Published):
            texts = [f"*{escape(text)}*" if text != "–" else text for text in _published_texts(table, line)]
        else:
            texts = [escape(text) for text in _texts(table, line)]
            texts[main] = re.sub(r"^\S+", r"**\g<0>**", texts[main])
        lines.append("| " + " | ".join(texts) + " |")
    more = len(table.lines) - len(shown_lines)
    if more:
        lines += ["", f"{more:,} more rows are in [{table.board.name}.csv]({table.board.name}.csv)."]
    lines += ["", *(f"{escape(line)}  " for line in legend(table))]
    return "\n".join(lines).rstrip() + "\n"


def to_rich(table: BoardTable) -> Table:
    """The board for a terminal: what fits, and the remarks below. The files have the other intervals and the costs."""
    main, *others = map(_title, table.info.values())
    title = Text(table.board.name, style="bold")
    if table.sample:
        title.append(f"\n{SAMPLE_NOTICE}", style="not bold yellow")
    notes = [f"[95 % interval over {task_of(table.board).unit}] ± standard deviation over seeds or folds"]
    for row in table.rows:
        if row.remarks:
            name = " ".join((_method(row), row.stage, row.newest.modality))
            notes.append(f"#{row.rank or '–'} {name}: {'; '.join(row.remarks)}")
    notes += [f"Not shown: {row.text}" for row in table.hidden]
    grid = Table(
        title=title,
        caption=Text("\n".join(notes)),
        title_justify="left",
        caption_justify="left",
        title_style="",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("#", "method", "stage", "modality", main):
        grid.add_column(Text(column), overflow="fold", no_wrap=column not in ("method", "stage"))
    for column in ("chance", *others, "n", "coverage", "seeds"):
        grid.add_column(Text(column), justify="right", no_wrap=True)
    for line in table.lines:
        cells = _published_texts(table, line) if isinstance(line, Published) else _texts(table, line)
        texts = dict(zip(_columns(table), cells, strict=True))
        for name in others:
            texts[name] = texts[name].split(" ")[0]
        grid.add_row(
            *(Text(texts[str(column.header)]) for column in grid.columns),
            style="dim" if isinstance(line, Published) else "",
        )
    return grid


def to_csv(table: BoardTable) -> str:
    """The board for machines: full precision, fractions not percent. `data` says in every line what was measured."""
    lines = [
        _csv_published(table, line) if isinstance(line, Published) else _csv_row(table, line) for line in table.lines
    ]
    out = io.StringIO()
    columns = list(dict.fromkeys(itertools.chain.from_iterable(lines)))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(line.get, columns) for line in lines)
    return out.getvalue()


def _csv_row(table: BoardTable, row: Row) -> dict[str, object]:
    record = row.newest
    line: dict[str, object] = {
        "data": "made-up sample" if table.sample else "real",
        "kind": "measured",
        "rank": row.rank,
        "method": record.method,
        "variant": record.variant,
        "preset": record.preset,
        "stage": record.stage,
        "settings": " ".join(row.settings),
        "modality": record.modality,
    }
    for name in table.metrics:
        cell = row.cells.get(name)
        low, high = cell.interval if cell else (None, None)
        line |= {name: cell and cell.value, f"{name}_low": low, f"{name}_high": high, f"{name}_std": cell and cell.std}
        line[f"{name}_chance"] = record.chance.get(name)
    return line | {
        "n": row.n,
        "coverage": row.coverage,
        "pretraining": row.pretraining,
        "parameters": record.cost.parameters,
        "device_hours": device_hours(row),
        "seeds": row.seeds,
        "folds": row.folds,
        "commit": record.commit,
        "dirty": row.dirty,
        "date": record.created.date().isoformat(),
        "remarks": "; ".join(row.remarks),
        "records": " ".join(each.id for each in row.records),
    }


def _csv_published(table: BoardTable, line: Published) -> dict[str, object]:
    return {
        "data": "real",
        "kind": "published",
        "method": line.method.name,
        "variant": line.row.variant,
        "modality": line.row.modality,
        **{name: line.value(name) for name in table.metrics},
        "pretraining": line.row.pretraining,
        "parameters": line.row.parameters,
        "remarks": line.row.note,
        "arxiv": line.method.arxiv,
        "place": line.row.place,
        "source": line.row.source,
    }
