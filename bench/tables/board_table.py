"""Records -> the boards' tables: rows, ranks and what a reader must know before comparing them.

The same records give the same table, in whatever order they come.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.records.published import PublishedMethod, PublishedRow, on_board
from bench.records.record import Record, ShownMetric
from bench.tables.hidden import Hidden, unlike, version
from bench.tables.row import LEAST_COVERAGE, Row, age
from bench.tables.row_key import RowKey, RowKeys, labels, settings_of
from bench.tasks import MetricInfo, task_of
from datamodules.boards import Board

CLIPS_TOLERANCE = 0.05
"""Rows whose number of clips differs by more are flagged (docs/protocols.md, section 8)."""


@dataclass(frozen=True)
class Published:
    """A line of a board that was not measured here, but published in a paper."""

    method: PublishedMethod
    row: PublishedRow
    info: Mapping[str, MetricInfo | ShownMetric]
    """The board's metrics."""

    def value(self, name: str) -> float | None:
        """A metric in a record's units; None where the paper lacks it."""
        value = self.row.metrics.get(name)
        return value / 100 if value is not None and self.info[name].percent else value

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
    info: Mapping[str, MetricInfo | ShownMetric]
    """Its metrics, the main one first, and how they are shown."""
    rows: tuple[Row, ...]
    sample: bool
    published: tuple[Published, ...] = ()
    """Best first; none beside made-up data."""
    hidden: tuple[Hidden, ...] = ()
    """What is not shown, as its protocol is not the board's; a row with other `views` or `crops` is shown, with a
    remark."""

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
    current = [record for record in mine if not unlike(record.protocol, protocol)]
    keys = RowKeys()
    rows = _rows(current, keys)
    there = {(row.key, record.seed, record.fold) for row in rows for record in row.records}
    others = [record for record in mine if unlike(record.protocol, protocol)]
    hidden = _rows([each for each in others if (keys(each), each.seed, each.fold) not in there], keys)
    hidden = _without_superseded(hidden, rows)
    _set_differing_settings([*rows, *hidden])
    _set_differing_settings(rows)  # among themselves alone: what is hidden is no reason to name a setting
    _remark(rows, protocol)
    sample = bool(mine) and mine[0].sample
    info = metric_info(board, mine)
    papers = [] if sample else [Published(method, row, info) for method, row in on_board(published, board.name)]
    return BoardTable(
        board=board,
        info=info,
        published=tuple(papers),
        rows=tuple(_ranked(rows, board.main, _sign(info[board.main]))),
        sample=sample,
        hidden=tuple(Hidden(row, unlike(row.newest.protocol, protocol)) for row in hidden),
    )


def metric_info(board: Board, records: Iterable[Record]) -> dict[str, MetricInfo | ShownMetric]:
    """The board's metrics, the main one first; where its task is not known here, as the newest record has them."""
    if metrics := task_of(board).metrics:
        return {name: metrics[name] for name in dict.fromkeys((board.main, *metrics))}
    described = [record for record in records if record.board_metrics]
    return {each.name: each for each in max(described, key=age).board_metrics}


def _rows(records: Iterable[Record], keys: RowKeys) -> list[Row]:
    """A row a configuration, with the newest record of each seed and fold."""
    newest: dict[RowKey, dict[tuple[int, str], Record]] = {}
    for record in sorted(records, key=age):
        newest.setdefault(keys(record), {})[record.seed, record.fold] = record
    return [Row(key, tuple([record for _, record in sorted(newest[key].items())])) for key in sorted(newest)]


def _set_differing_settings(rows: Sequence[Row]) -> None:
    for row, settings in zip(rows, labels([row.key for row in rows], [row.newest for row in rows]), strict=True):
        row.differing_settings = settings


def _without_superseded(hidden: Sequence[Row], shown: Iterable[Row]) -> list[Row]:
    """Without those of which a later version of the method has a row that is shown."""
    if not hidden:
        return []
    latest: dict[RowKey, int] = {}
    for row in shown:
        key = row.key.without_version
        latest[key] = max(version(row), latest.get(key, 0))
    return [row for row in hidden if version(row) >= latest.get(row.key.without_version, 0)]


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


def _remark(rows: Sequence[Row], protocol: Mapping[str, object]) -> None:
    """Notes on each row, in words, what stands between it and a fair comparison.

    Args:
        rows: of a board.
        protocol: of the board.
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
        if own := sorted({_views(record.protocol) for record in row.records} - {_views(protocol)}):
            usual_views = _views(protocol).removesuffix(" views").removesuffix(" view")
            remarks.append(f"{' or '.join(own)} a clip, the board has {usual_views}")
        if row.least_folds < row.official_folds:
            remarks.append(f"{row.least_folds} of {row.official_folds} folds")
        if row.coverage < 1:
            few = "" if row.enough else f", no rank below {coverage_text(LEAST_COVERAGE)}"
            remarks.append(f"{coverage_text(row.coverage)} of the clips{few}")
        remarks += _of_shares(row)
        if row.n < (1 - CLIPS_TOLERANCE) * most:
            remarks.append(f"{row.n} clips, others {most}")
        if row.fingerprints != usual:
            remarks.append("other clips")
        remarks += _of_seeds(row)
        remarks += [f"{count} {name.replace('_', ' ')}" for name, count in sorted(row.newest.notes.items())]
        row.remarks = tuple(remarks)


def _views(protocol: Mapping[str, object]) -> str:
    """How often a clip is looked at."""
    views, crops = protocol.get("views", 1), protocol.get("crops")
    return f"{views} view{'s' if views != 1 else ''}" + (f" x {crops} crops" if crops else "")


def _of_shares(row: Row) -> list[str]:
    """Which of its stages read only a share of their training clips (`data.train_share`), its own first."""
    found = {}
    for key, value in settings_of(row.newest).items():
        stage, _, name = key.removeprefix("stages.").partition(".")
        if name == "data.train_share":
            found[stage] = f"{100 * value:g} % of the training clips"
    own = [text for stage, text in found.items() if stage == row.newest.stage]
    return own + [f"{text} in {stage}" for stage, text in found.items() if stage != row.newest.stage]


def _of_seeds(row: Row) -> list[str]:
    """What a row's seeds differ in, by their scored clips and by their hashes of all that determines a result."""
    clips: dict[str, set[str]] = {}
    recipes: dict[tuple[bool, str], set[str]] = {}
    for record in row.records:
        fingerprint = record.data.fingerprint
        clips.setdefault(record.fold, set()).add(fingerprint)
        # Older hashes are of other things; all are of the scored clips too, but for those of folds.
        alike = (record.settings is not None, "" if record.fold else fingerprint)
        recipes.setdefault(alike, set()).add(record.config_hash)
    found = []
    if any(len(each) > 1 for each in clips.values()):
        found.append("seeds scored on other clips")
    if any(len(each) > 1 for each in recipes.values()):
        found.append("seeds on other training clips, in another precision or in other parts of a batch")
    return found


def coverage_text(share: float) -> str:
    """Percent, rounded down, so that 100 % means all, and 0 % none."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{int(share * 1000) / 10:.1f} %" if share < 1 else "100 %"
