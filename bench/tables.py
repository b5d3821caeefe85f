"""Records -> the boards' tables: rows, ranks and what a reader must know before comparing them.

The same records give the same table, in whatever order they come.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple

from bench.published import PublishedMethod, PublishedRow, on_board
from bench.record import MetricValue, Record
from bench.tasks import METRICS, TASK_METRICS
from datamodules.types import Board

CLIPS_TOLERANCE = 0.05
"""Rows whose number of clips differs by more are flagged (PROTOCOLS.md section 8)."""


@dataclass
class Row:
    """A line of a board: all current records of one method, variant, preset, stage and modality."""

    records: tuple[Record, ...]
    """The newest record of each seed and fold, ordered by them."""
    rank: int | None = None
    remarks: tuple[str, ...] = ()
    """What a reader must know before comparing this row with others."""

    @cached_property
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
        clips: dict[int, int] = {}
        for record in self.records:
            clips[record.seed] = clips.get(record.seed, 0) + record.n
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

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """The metrics that all of the row's records have."""
        first, *others = (record.metrics for record in self.records)
        return {
            name: Cell.of([value, *(metrics[name] for metrics in others)])
            for name, value in first.items()
            if all(name in metrics for metrics in others)
        }


class Cell(NamedTuple):
    """One metric of a row."""

    value: float
    """The mean over seeds and folds."""
    std: float | None
    """Sample standard deviation over seeds and folds; None for a single record."""
    interval: tuple[float, float] | None
    """The bootstrap interval over clips of a single record; None for several."""

    @classmethod
    def of(cls, values: Sequence[MetricValue]) -> Cell:
        if len(values) == 1:
            (one,) = values
            return cls(one.value, None, (one.low, one.high))
        numbers = [value.value for value in values]
        return cls(statistics.fmean(numbers), statistics.stdev(numbers), None)


@dataclass(frozen=True)
class Published:
    """A line of a board that nobody measured here: what a paper says."""

    method: PublishedMethod
    row: PublishedRow

    def value(self, name: str) -> float | None:
        """A metric in a record's units; None where the paper lacks it."""
        value = self.row.metrics.get(name)
        return value / 100 if value is not None and METRICS[name].percent else value

    @property
    def remark(self) -> str:
        """Where it stands and how it is known."""
        where = f"published, not measured here: {self.row.place}"
        source = "" if self.row.source == self.row.place else f"; read in {self.row.source}"
        return f"{where}{source}{f'; {self.row.note}' if self.row.note else ''}"


@dataclass(frozen=True)
class BoardTable:
    """A board with its rows, best first."""

    board: Board
    rows: tuple[Row, ...]
    sample: bool
    published: tuple[Published, ...] = ()
    """Best first; none beside made-up data."""
    other_protocols: int = 0
    """Records that are not shown, as their protocol is not the board's; a row with other `views` is, with a remark."""
    metrics: tuple[str, ...] = field(init=False)
    """The main one first."""

    @property
    def empty(self) -> bool:
        return not self.rows and not self.published and not self.other_protocols

    @cached_property
    def lines(self) -> list[Row | Published]:
        """All rows, best first; those without the main metric last."""

        def key(line: Row | Published) -> tuple[bool, float]:
            value = main_value(line, self.board.main)
            return value is None, _sign(self.board.main) * (value or 0.0)

        return sorted((*self.rows, *self.published), key=key)

    def __post_init__(self) -> None:
        names = dict.fromkeys((self.board.main, *TASK_METRICS[self.board.task]))
        object.__setattr__(self, "metrics", tuple(names))


def main_value(line: Row | Published, name: str) -> float | None:
    """A metric of either kind of line."""
    if isinstance(line, Published):
        return line.value(name)
    cell = line.cells.get(name)
    return cell and cell.value


def _sign(metric: str) -> int:
    """Of what sorts the best first."""
    return -1 if METRICS[metric].better == "higher" else 1


def _age(record: Record) -> tuple[object, str]:
    return record.created, record.id


def board_table(board: Board, records: Iterable[Record], published: Iterable[PublishedMethod] = ()) -> BoardTable:
    """The table of one board.

    Args:
        records: of any boards. Of several of one row, seed and fold the newest counts.
        published: the papers' own numbers, of which the verified ones of this board stand beside real records.

    Raises:
        ValueError: if records of sample data and of real data are mixed.
    """
    mine = [record for record in records if record.board == board.name]
    if len({record.sample for record in mine}) > 1:
        raise ValueError(f"{board.name}: records of sample data and of real data must not share a table")
    protocol = board.protocol()
    current = [record for record in mine if record.protocol | {"views": board.views} == protocol]
    newest: dict[tuple[str, ...], dict[tuple[int, str], Record]] = {}
    for record in sorted(current, key=_age):
        key = (record.method, record.variant, record.preset, record.stage, record.modality)
        newest.setdefault(key, {})[record.seed, record.fold] = record
    rows = [Row(tuple([record for _, record in sorted(newest[key].items())])) for key in sorted(newest)]
    _remark(rows, board.views)
    sample = bool(mine) and mine[0].sample
    papers = [] if sample else [Published(method, row) for method, row in on_board(published, board.name)]
    return BoardTable(
        board=board,
        published=tuple(papers),
        rows=tuple(_ranked(rows, board.main)),
        sample=sample,
        other_protocols=len(mine) - len(current),
    )


def _ranked(rows: Sequence[Row], main: str) -> list[Row]:
    """Best first, with their ranks; equal rows share one; rows without the main metric come last, without one."""
    scored = [(_sign(main) * row.cells[main].value, row) for row in rows if main in row.cells]
    scored.sort(key=itemgetter(0))
    place, before = 0, None
    for number, (value, row) in enumerate(scored, 1):
        if value != before:
            place, before = number, value
        row.rank = place
    return [row for _, row in scored] + [row for row in rows if main not in row.cells]


def _remark(rows: Sequence[Row], views: int) -> None:
    """Tells of each row what stands between it and a fair comparison, in words.

    Args:
        views: of each clip, as the board says.
    """
    if not rows:
        return
    # The clips to compare with: the most there are, and of these the set that most rows scored.
    votes = Counter((row.n, row.fingerprints) for row in rows)
    most, usual = max(votes, key=lambda clips: (clips[0], votes[clips], sorted(clips[1])))
    for row in rows:
        remarks = []
        if row.dirty:
            remarks.append("uncommitted changes")
        if own := sorted({record.protocol.get("views", 1) for record in row.records} - {views}):
            remarks.append(
                f"{' or '.join(map(str, own))} view{'s' if own != [1] else ''} a clip, the board has {views}"
            )
        if row.coverage < 1:
            remarks.append(f"{coverage_text(row.coverage)} of the clips")
        if row.n < (1 - CLIPS_TOLERANCE) * most:
            remarks.append(f"{row.n} clips, others {most}")
        if row.fingerprints != usual:
            remarks.append("other clips")
        if len({record.config_hash for record in row.records}) > 1:
            remarks.append("seeds of different configurations")
        remarks += [f"{count} {name.replace('_', ' ')}" for name, count in sorted(row.newest.notes.items())]
        row.remarks = tuple(remarks)


def coverage_text(share: float) -> str:
    """Percent, rounded down, so that 100 % means all."""
    return f"{int(share * 1000) / 10:.1f} %" if share < 1 else "100 %"
