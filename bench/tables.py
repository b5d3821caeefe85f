"""Records -> the boards' tables: rows, ranks and what a reader must know before comparing them.

The same records give the same table, in whatever order they come.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bench.published import PublishedMethod, PublishedRow, on_board
from bench.record import MetricValue, Record, ShownMetric
from bench.row_key import START, RowKey, RowKeys, Setting, labels
from bench.tasks import METRICS, TASK_METRICS, MetricInfo
from datamodules.types import Board

CLIPS_TOLERANCE = 0.05
"""Rows whose number of clips differs by more are flagged (PROTOCOLS.md section 8)."""
LEAST_COVERAGE = 0.85
"""Share of the official clips below which a row has no rank, whatever the run's `data.min_coverage`, which only says
whether it is measured."""


@dataclass
class Row:
    """A line of a board: all current records of one configuration."""

    key: RowKey
    records: tuple[Record, ...]
    """The newest record of each seed and fold, ordered by them."""
    rank: int | None = None
    remarks: tuple[str, ...] = ()
    """What a reader must know before comparing this row with others."""
    told_by: tuple[Setting, ...] = ()
    """What tells it from rows of the same method, variant, preset, stage and modality."""

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
        """Share of the official clips that were scored."""
        return min(map(scored_share, self.records))

    @property
    def settings(self) -> tuple[str, ...]:
        """`epochs=2` for each setting that it is told by."""
        return tuple(setting.text for setting in self.told_by)

    @property
    def stage(self) -> str:
        """The stage's name, and what tells the row apart."""
        return " ".join((self.newest.stage, *self.settings))

    @property
    def enough(self) -> bool:
        """Whether so many of the clips were scored that it has a rank, whatever the run asked for."""
        return self.coverage >= LEAST_COVERAGE

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
        first, *others = self.records
        common = [name for name in first.metrics if all(name in record.metrics for record in others)]
        return {name: Cell.of({(r.seed, r.fold): r.metrics[name] for r in self.records}) for name in common}


class Cell(NamedTuple):
    """One metric of a row."""

    value: float
    """The mean over seeds and folds."""
    std: float | None
    """Sample standard deviation over seeds and folds; None for a single record."""
    interval: tuple[float, float]
    """The 95 % interval over clips."""

    @classmethod
    def of(cls, values: Mapping[tuple[int, str], MetricValue]) -> Cell:
        """Of the values by (seed, fold).

        Folds have clips of their own, so the distances from their values to the ends of their intervals are independent
        errors of the terms of a mean of F: sqrt(sum of squares) / F. Seeds are measured on the same clips, of which the
        easy ones are easy for all: their mean is as uncertain as one of them, by the mean distance.
        """
        if len(values) == 1:
            (one,) = values.values()
            return cls(one.value, None, (one.low, one.high))
        numbers = [value.value for value in values.values()]
        by_seed: dict[int, list[MetricValue]] = {}
        for (seed, _), value in values.items():
            by_seed.setdefault(seed, []).append(value)
        down, up = (
            statistics.fmean(
                math.hypot(*(getattr(v, end) - v.value for v in folds)) / len(folds) for folds in by_seed.values()
            )
            for end in ("low", "high")
        )
        mean = statistics.fmean(numbers)
        return cls(mean, statistics.stdev(numbers), (mean - down, mean + up))


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
class Hidden:
    """A row that is not shown: none of its records was measured by the board's protocol of today."""

    row: Row
    why: str
    """`protocol version 1, now 2`."""

    @property
    def text(self) -> str:
        """Which row it is, why it is hidden, and what to run."""
        record = self.row.newest
        name = f"{record.method} ({', '.join(filter(None, (record.variant, record.preset)))}) {self.row.stage}"
        seeds = sorted({each.seed for each in self.row.records})
        words = [record.method, f"preset={record.preset}", *([f"variant={record.variant}"] if record.variant else [])]
        words += [f"stage={record.stage}", *([] if record.sample else ["data_root=FOLDER"])]
        words += [f"{each.key}={each.value}" for each in self.row.told_by if each.key not in (START, "version")]
        command = f"python -m bench sweep {' '.join(words)} --seeds {' '.join(map(str, seeds))}"
        return f"{name} {record.modality}: {self.why}; {command} measures it again"


@dataclass(frozen=True)
class BoardTable:
    """A board with its rows, best first."""

    board: Board
    info: Mapping[str, MetricInfo | ShownMetric]
    """Its metrics, the main one first, and how they are shown."""
    rows: tuple[Row, ...]
    sample: bool
    published: tuple[Published, ...] = ()
    """Best first; none beside made-up data."""
    hidden: tuple[Hidden, ...] = ()
    """What is not shown, as its protocol is not the board's; a row with other `views` is shown, with a remark."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The main one first."""
        return tuple(self.info)

    @property
    def empty(self) -> bool:
        return not self.rows and not self.published and not self.hidden

    @cached_property
    def lines(self) -> list[Row | Published]:
        """All rows, best first; those without the main metric last."""

        def key(line: Row | Published) -> tuple[bool, bool, float]:
            value = main_value(line, self.board.main)
            few = isinstance(line, Row) and not line.enough
            return value is None, few, _sign(self.info[self.board.main]) * (value or 0.0)

        return sorted((*self.rows, *self.published), key=key)


def main_value(line: Row | Published, name: str) -> float | None:
    """A metric of either kind of line."""
    if isinstance(line, Published):
        return line.value(name)
    cell = line.cells.get(name)
    return cell and cell.value


def _sign(info: MetricInfo | ShownMetric) -> int:
    """Of what sorts the best first."""
    return -1 if info.better == "higher" else 1


def scored_share(record: Record) -> float:
    """Share of the split's official clips that the record's numbers are of."""
    lost = record.notes.get("unreadable_while_scoring", 0)
    return max(record.data.used - (lost if isinstance(lost, int) else 0), 0) / max(record.data.official, 1)


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
    keys = RowKeys()
    rows = _rows(current, keys)
    there = {(row.key, record.seed, record.fold) for row in rows for record in row.records}
    others = [record for record in mine if record.protocol | {"views": board.views} != protocol]
    hidden = _rows([each for each in others if (keys(each), each.seed, each.fold) not in there], keys)
    told_by = labels([row.key for row in (*rows, *hidden)], [row.newest for row in (*rows, *hidden)])
    for row, settings in zip((*rows, *hidden), told_by, strict=True):
        row.told_by = settings
    _remark(rows, board.views)
    sample = bool(mine) and mine[0].sample
    papers = [] if sample else [Published(method, row) for method, row in on_board(published, board.name)]
    info = metric_info(board, mine)
    return BoardTable(
        board=board,
        info=info,
        published=tuple(papers),
        rows=tuple(_ranked(rows, board.main, _sign(info[board.main]))),
        sample=sample,
        hidden=tuple(Hidden(row, _unlike(row.newest.protocol, protocol)) for row in hidden),
    )


def metric_info(board: Board, records: Iterable[Record]) -> dict[str, MetricInfo | ShownMetric]:
    """The board's metrics, the main one first; where its task is not known here, as the newest record has them."""
    if board.task in TASK_METRICS:
        return {name: METRICS[name] for name in dict.fromkeys((board.main, *TASK_METRICS[board.task]))}
    described = [record for record in records if record.board_metrics]
    return {each.name: each for each in max(described, key=_age).board_metrics}


def _rows(records: Iterable[Record], keys: RowKeys) -> list[Row]:
    """A row a configuration, with the newest record of each seed and fold."""
    newest: dict[RowKey, dict[tuple[int, str], Record]] = {}
    for record in sorted(records, key=_age):
        newest.setdefault(keys(record), {})[record.seed, record.fold] = record
    return [Row(key, tuple([record for _, record in sorted(newest[key].items())])) for key in sorted(newest)]


def _unlike(then: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What the protocols differ in."""
    names = [name for name in sorted({*then, *now}) if name != "views" and then.get(name) != now.get(name)]
    return ", ".join(
        f"protocol {name.replace('_', ' ')} {then.get(name, 'none')}, now {now.get(name, 'none')}" for name in names
    )


def _ranked(rows: Sequence[Row], main: str, sign: int) -> list[Row]:
    """Best first, with their ranks; equal rows share one. Those of too few clips come last but for those without the
    main metric; neither have a rank."""
    scored = sorted((row for row in rows if main in row.cells), key=lambda row: sign * row.cells[main].value)
    ranked = [row for row in scored if row.enough]
    place, before = 0, None
    for number, row in enumerate(ranked, 1):
        if row.cells[main].value != before:
            place, before = number, row.cells[main].value
        row.rank = place
    return [*ranked, *(row for row in scored if not row.enough), *(row for row in rows if main not in row.cells)]


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
            few = "" if row.enough else f", no rank below {coverage_text(LEAST_COVERAGE)}"
            remarks.append(f"{coverage_text(row.coverage)} of the clips{few}")
        if row.n < (1 - CLIPS_TOLERANCE) * most:
            remarks.append(f"{row.n} clips, others {most}")
        if row.fingerprints != usual:
            remarks.append("other clips")
        for named in (True, False):  # older hashes are of other things
            if len({r.config_hash for r in row.records if (r.settings is not None) == named}) > 1:
                remarks.append("seeds on other training clips or in another precision")
        remarks += [f"{count} {name.replace('_', ' ')}" for name, count in sorted(row.newest.notes.items())]
        row.remarks = tuple(remarks)


def coverage_text(share: float) -> str:
    """Percent, rounded down, so that 100 % means all, and 0 % none."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{int(share * 1000) / 10:.1f} %" if share < 1 else "100 %"
