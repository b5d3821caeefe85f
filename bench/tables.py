"""Records -> the boards' tables: CSV for machines, Markdown for GitHub, rich for the terminal.

The same records give the same text, in whatever order they come.
"""

from __future__ import annotations

import csv
import io
import itertools
import logging
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from bench.records import MetricValue, Record
from bench.tasks import METRICS, TASK_METRICS
from datamodules.files import replacing
from datamodules.types import Board

log = logging.getLogger(__name__)

SAMPLE_NOTICE = (
    "Made-up sample data. These numbers show that the code learns; they say nothing about how good a method is "
    "and must not be compared with published results."
)
CLIPS_TOLERANCE = 0.05
"""Rows whose number of clips differs by more are flagged (PROTOCOLS.md section 8)."""


LEFT_OUT = {
    "tagging": "Means over classes leave out classes without positives among the scored clips; a remark counts them.",
    "classification": "Tied classes share a clip's score. The mean over classes leaves out classes without clips; a "
    "remark counts them.",
}
"""Task -> what is done where a class cannot be measured."""


@dataclass(frozen=True)
class Row:
    """A line of a board: all current records of one method, variant, preset, stage and modality."""

    records: tuple[Record, ...]
    """The newest record of each seed and fold, ordered by them."""
    rank: int | None = None
    remarks: tuple[str, ...] = ()
    """What a reader must know before comparing this row with others."""

    @property
    def newest(self) -> Record:
        return max(self.records, key=_age)

    @property
    def seeds(self) -> int:
        return len({record.seed for record in self.records})

    @property
    def folds(self) -> int:
        return len({record.fold for record in self.records})

    @property
    def n(self) -> int:
        """Clips scored by one seed, over all of its folds."""
        clips: Counter[int] = Counter()
        for record in self.records:
            clips[record.seed] += record.n
        return min(clips.values())

    @property
    def fingerprints(self) -> frozenset[str]:
        return frozenset(record.data.fingerprint for record in self.records)

    @property
    def coverage(self) -> float:
        return min(record.data.coverage for record in self.records)

    @property
    def dirty(self) -> bool:
        return any(record.dirty for record in self.records)

    @property
    def pretraining(self) -> str:
        """What the stages before this one were trained on, and checkpoints it came from, each once, in their order.

        The row's own training set is no pretraining, nor is that of the classifiers that a row averages.
        """
        record = self.newest
        last = next((parent.data for parent in reversed(record.parents) if parent.data), "")
        own = ""
        if record.train:
            own = f"{record.train.dataset} {record.train.split}"
        elif "R@1" not in record.metrics and last.startswith(f"{record.data.dataset} "):
            own = last
        start = {"imagenet": "ImageNet"}
        sources = [start.get(p.identity, "init") if p.stage == "init" else p.data for p in record.parents]
        return ", ".join(dict.fromkeys(source for source in sources if source not in ("", own)))

    def metric(self, name: str) -> Cell | None:
        """A metric over the row's records; None where one of them lacks it."""
        values = [record.metrics.get(name) for record in self.records]
        return Cell(tuple(value for value in values if value)) if all(values) else None


@dataclass(frozen=True)
class Cell:
    """One metric of a row."""

    values: tuple[MetricValue, ...]

    @property
    def value(self) -> float:
        return statistics.fmean(value.value for value in self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds and folds; None for a single record."""
        return statistics.stdev(value.value for value in self.values) if len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The bootstrap interval over clips of a single record; None for several."""
        return (self.values[0].low, self.values[0].high) if len(self.values) == 1 else None


@dataclass(frozen=True)
class BoardTable:
    """A board with its rows, best first."""

    board: Board
    rows: tuple[Row, ...]
    sample: bool
    other_protocols: int = 0
    """Records that are not shown, as their protocol is not the board's; a row with other `views` is, with a remark."""
    metrics: tuple[str, ...] = field(init=False)
    """The main one first."""

    def __post_init__(self) -> None:
        names = dict.fromkeys((self.board.main, *TASK_METRICS[self.board.task]))
        object.__setattr__(self, "metrics", tuple(names))


def _age(record: Record) -> tuple[object, str]:
    return record.created, record.id


def board_table(board: Board, records: Iterable[Record]) -> BoardTable:
    """The table of one board.

    Args:
        records: of any boards. Of several of one row, seed and fold the newest counts.

    Raises:
        ValueError: if records of sample data and of real data are mixed.
    """
    mine = [record for record in records if record.board == board.name]
    if len({record.sample for record in mine}) > 1:
        raise ValueError(f"{board.name}: records of sample data and of real data must not share a table")
    current = [record for record in mine if record.protocol | {"views": board.views} == board.protocol()]
    newest: dict[tuple[str, ...], dict[tuple[int, str], Record]] = {}
    for record in sorted(current, key=_age):
        key = (record.method, record.variant, record.preset, record.stage, record.modality)
        newest.setdefault(key, {})[record.seed, record.fold] = record
    rows = [Row(tuple(record for _, record in sorted(newest[key].items()))) for key in sorted(newest)]
    return BoardTable(
        board=board,
        rows=tuple(_rank(_remark(rows, board.views), board.main)),
        sample=bool(mine) and mine[0].sample,
        other_protocols=len(mine) - len(current),
    )


def _rank(rows: Sequence[Row], main: str) -> list[Row]:
    """Best first; equal rows share a rank; rows without the main metric come last, without one."""
    sign = -1 if METRICS[main].better == "higher" else 1
    scored = [(sign * cell.value, row) for row in rows if (cell := row.metric(main)) is not None]
    ranked, place = [], 1
    for _, group in itertools.groupby(sorted(scored, key=lambda pair: pair[0]), key=lambda pair: pair[0]):
        tied = [replace(row, rank=place) for _, row in group]
        ranked, place = ranked + tied, place + len(tied)
    return ranked + [row for row in rows if row.metric(main) is None]


def _remark(rows: Sequence[Row], views: int) -> list[Row]:
    """The rows with what stands between them and a fair comparison, in words.

    Args:
        views: of each clip, as the board says.
    """
    if not rows:
        return []
    # The clips to compare with: the most there are, and of these the set that most rows scored.
    votes = Counter((row.n, row.fingerprints) for row in rows)
    most, usual = max(votes, key=lambda clips: (clips[0], votes[clips], sorted(clips[1])))
    remarked = []
    for row in rows:
        remarks = []
        if row.dirty:
            remarks.append("uncommitted changes")
        if own := sorted({record.protocol.get("views", 1) for record in row.records} - {views}):
            remarks.append(f"{' or '.join(map(str, own))} views a clip, the board has {views}")
        if row.coverage < 1:
            remarks.append(f"{_coverage(row.coverage)} of the clips")
        if row.n < (1 - CLIPS_TOLERANCE) * most:
            remarks.append(f"{row.n} clips, others {most}")
        if row.fingerprints != usual:
            remarks.append("other clips")
        if len({record.config_hash for record in row.records}) > 1:
            remarks.append("seeds of different configurations")
        remarks += [f"{count} {name.replace('_', ' ')}" for name, count in sorted(row.newest.notes.items())]
        remarked.append(replace(row, remarks=tuple(remarks)))
    return remarked


def _coverage(share: float) -> str:
    """Percent, rounded down, so that 100 % means all."""
    return f"{int(share * 1000) / 10:.1f} %" if share < 1 else "100 %"


# --- as text ---------------------------------------------------------------------------------------------------------


def _shown(name: str, value: float) -> str:
    info = METRICS[name]
    return f"{value * (100 if info.percent else 1):.{info.decimals}f}"


def _title(name: str) -> str:
    info = METRICS[name]
    return f"{info.label} {'↑' if info.better == 'higher' else '↓'}"


def _cell(name: str, cell: Cell | None) -> str:
    """`45.9 ± 0.4` over seeds, `45.9 [45.1, 46.7]` for one."""
    if cell is None:
        return "–"
    if cell.std is not None:
        return f"{_shown(name, cell.value)} ± {_shown(name, cell.std)}"
    low, high = cell.interval
    return f"{_shown(name, cell.value)} [{_shown(name, low)}, {_shown(name, high)}]"


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


def _device_hours(row: Row) -> float | None:
    """Of one seed: the mean over the row's records, parents included where that is known."""
    costs = [record.cost for record in row.records]
    hours = [cost.device_hours if cost.total_device_hours is None else cost.total_device_hours for cost in costs]
    known = [hour for hour in hours if hour is not None]
    return statistics.fmean(known) if known else None


def _commit(row: Row) -> str:
    """The newest record's commit; `*` if any of the row's records comes from a tree with uncommitted changes."""
    return (row.newest.commit or "none")[:8] + ("*" if row.dirty else "")


def _columns(table: BoardTable) -> list[str]:
    metrics = [_title(name) for name in table.metrics]
    if table.sample:
        metrics.insert(1, "chance")
    after = ["n", "coverage", "pretraining", "parameters", "device-hours", "seeds", "commit", "date", "remarks"]
    return ["#", "method", "stage", "modality", *metrics, *after]


def _texts(table: BoardTable, row: Row) -> list[str]:
    """The row as a reader sees it, one text for each of `_columns`."""
    record = row.newest
    metrics = [_cell(name, row.metric(name)) for name in table.metrics]
    if table.sample:
        chance = record.chance.get(table.board.main)
        metrics.insert(1, "–" if chance is None else _shown(table.board.main, chance))
    return [
        "–" if row.rank is None else str(row.rank),
        _method(row),
        record.stage,
        record.modality,
        *metrics,
        str(row.n),
        _coverage(row.coverage),
        row.pretraining or "–",
        _short(record.cost.parameters),
        _short(_device_hours(row)),
        f"{row.seeds}" if row.folds == 1 else f"{row.seeds} × {row.folds} folds",
        _commit(row),
        record.created.date().isoformat(),
        "; ".join(row.remarks),
    ]


def _legend(table: BoardTable) -> list[str]:
    board = table.board
    lines = [
        f"{board.dataset}, split {board.split}, {board.task}"
        + (f" {board.query} → {board.gallery}" if board.task == "retrieval" else "")
        + f"; sorted by {METRICS[board.main].label}; protocol version {board.version}.",
        "[low, high]: 95 % bootstrap interval over clips, one seed. ±: standard deviation over seeds or folds. "
        "Device-hours include the stages before. *: the tree had uncommitted changes.",
    ]
    if board.task in LEFT_OUT:
        lines.append(LEFT_OUT[board.task])
    if table.other_protocols:
        lines.append(f"Not shown: {table.other_protocols} records of another protocol.")
    return lines


def _escape(text: str) -> str:
    """Text that GitHub shows as it is, in a table cell: no markup, no HTML, no links, one line."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*\[\]|~])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    # GitHub makes links of these by itself; an entity that is not seen stops it.
    return re.sub(r"(?i)(www)(\.)|(https?)(:)", r"\1\3&#8205;\2\4", text)


def to_markdown(table: BoardTable) -> str:
    """The board as a GitHub page."""
    lines = [f"# {_escape(table.board.name)}", ""]
    if table.sample:
        lines += [f"> **{SAMPLE_NOTICE}**", ""]
    columns = _columns(table)
    right = {"#", "chance", "n", "coverage", "parameters", "device-hours", "seeds", *map(_title, table.metrics)}
    lines.append("| " + " | ".join(map(_escape, columns)) + " |")
    lines.append("|" + "|".join(" ---: " if column in right else " --- " for column in columns) + "|")
    for row in table.rows:
        texts = [_escape(text) for text in _texts(table, row)]
        main = columns.index(_title(table.board.main))
        texts[main] = re.sub(r"^\S+", r"**\g<0>**", texts[main])
        lines.append("| " + " | ".join(texts) + " |")
    lines += ["", *(f"{_escape(line)}  " for line in _legend(table))]
    return "\n".join(lines).rstrip() + "\n"


def to_rich(table: BoardTable) -> Table:
    """The board for a terminal: what fits, and the remarks below. The files have the other intervals and the costs."""
    main, *others = table.metrics
    title = Text(table.board.name, style="bold")
    if table.sample:
        title.append(f"\n{SAMPLE_NOTICE}", style="not bold yellow")
    notes = ["[95 % interval over clips], or ± standard deviation over seeds"]
    for row in table.rows:
        if row.remarks:
            notes.append(f"#{row.rank or '–'} {_method(row)} {row.newest.modality}: {'; '.join(row.remarks)}")
    shown = Table(
        title=title,
        caption=Text("\n".join(notes)),
        title_justify="left",
        caption_justify="left",
        title_style="",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for column in ("#", "method", "stage", "modality", _title(main)):
        shown.add_column(Text(column), overflow="fold", no_wrap=column not in ("method", "stage"))
    for column in (*(["chance"] if table.sample else []), *map(_title, others), "n", "seeds"):
        shown.add_column(Text(column), justify="right", no_wrap=True)
    for row in table.rows:
        texts = dict(zip(_columns(table), _texts(table, row), strict=True))
        for name in others:
            texts[_title(name)] = texts[_title(name)].split(" ")[0]
        shown.add_row(*(Text(texts[str(column.header)]) for column in shown.columns))
    return shown


def to_csv(table: BoardTable) -> str:
    """The board for machines: full precision, fractions not percent. `data` says in every line what was measured."""
    lines = [_csv_row(table, row) for row in table.rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _csv_row(table: BoardTable, row: Row) -> dict[str, object]:
    record = row.newest
    line: dict[str, object] = {
        "data": "made-up sample" if table.sample else "real",
        "rank": row.rank,
        "method": record.method,
        "variant": record.variant,
        "preset": record.preset,
        "stage": record.stage,
        "modality": record.modality,
    }
    for name in table.metrics:
        cell = row.metric(name)
        low, high = (cell.interval if cell else None) or (None, None)
        line |= {name: cell and cell.value, f"{name}_low": low, f"{name}_high": high, f"{name}_std": cell and cell.std}
        if table.sample:
            line[f"{name}_chance"] = record.chance.get(name)
    return line | {
        "n": row.n,
        "coverage": row.coverage,
        "pretraining": row.pretraining,
        "parameters": record.cost.parameters,
        "device_hours": _device_hours(row),
        "seeds": row.seeds,
        "folds": row.folds,
        "commit": record.commit,
        "dirty": row.dirty,
        "date": record.created.date().isoformat(),
        "remarks": "; ".join(row.remarks),
        "records": " ".join(each.id for each in row.records),
    }


# --- files -----------------------------------------------------------------------------------------------------------


def write_tables(records: Iterable[Record], boards: Iterable[Board], folder: Path) -> list[Path]:
    """Writes `<folder>/<board>.csv` and `.md` of each board that has records, and removes those of boards without.

    Returns:
        The files that changed.

    Raises:
        ValueError: if records of sample data and of real data are mixed.
    """
    boards = sorted(boards, key=lambda board: board.name)
    by_board: dict[str, list[Record]] = {board.name: [] for board in boards}
    for record in records:
        if record.board in by_board:
            by_board[record.board].append(record)
        else:
            log.warning("record %s is in no table: no board is called %r", record.id, record.board)
    changed = []
    for board in boards:
        mine = by_board[board.name]
        table = board_table(board, mine)
        for suffix, render in (("csv", to_csv), ("md", to_markdown)):
            path = folder / f"{board.name}.{suffix}"
            if _write_if_changed(path, render(table) if mine else None):
                changed.append(path)
    return changed


def _write_if_changed(path: Path, text: str | None) -> bool:
    """Atomically; None removes the file. Returns whether anything changed."""
    if (path.read_text(encoding="utf-8") if path.exists() else None) == text:
        return False
    if text is None:
        path.unlink()
        return True
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True
