"""`bench compare A B --board BOARD`: two methods' records, on the clips that both were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bench.compare.paired import OF_FOLD, Comparison, compare
from bench.errors import UserError, unknown
from bench.plan.identity import file_hash
from bench.plan.layout import PREDICTIONS
from bench.records.archive import Record, read_all
from bench.run.results import read_predictions
from bench.tables.boards import find_board, records_folder
from bench.tables.row_key import RowKey, RowKeys, Setting, labels, row_key
from bench.tables.show import console
from bench.tasks import Predictions, Task, task_of
from datamodules.boards import Board


@dataclass(frozen=True)
class Side:
    """One seed of one row of a board; on a board of folds all of its folds."""

    records: tuple[Record, ...]
    predictions: Predictions
    differing_settings: tuple[Setting, ...] = ()
    """Those that distinguish its row from the other side's, where tables show the two alike."""

    @property
    def name(self) -> str:
        record = self.records[0]
        variant = f" ({record.variant})" if record.variant else ""
        stage = " ".join((record.stage, *(setting.text for setting in self.differing_settings)))
        return f"{record.method}{variant} {stage} {record.modality}, {record.preset}, seed {record.seed}"


@dataclass(frozen=True)
class Compared:
    """The result of comparing two sides."""

    board: Board
    before: Side
    after: Side
    comparison: Comparison
    classes: list[tuple[str, float, float]]
    """(class, before, after) of each class's average precision or accuracy on the common clips."""


def compare_methods(
    before: str, after: str, board: str, leaderboards: Path, runs: Path, seed: int | None = None
) -> Compared:
    """Compares two rows of a board.

    Args:
        before, after: `METHOD[/STAGE[/MODALITY]]`, or the id of a record of the row.
        board: its name; `sample/BOARD` for one of made-up data.
        leaderboards: folder of the records.
        runs: folder of the runs, which hold the predictions.
        seed: of both sides; None = that of a record that is named, or else the first that both have.

    Raises:
        UserError: no such rows or more than one, other protocols, predictions that are not there or are others.
    """
    name, sample = board.removeprefix("sample/"), board.startswith("sample/")
    records = read_all(records_folder(leaderboards, sample))[0]
    wanted = find_board(name, records)
    task = task_of(wanted)
    if not task.metrics:
        raise UserError(f"{board}: its task {task.title!r} is not known here; install the package that brings it")
    found = [record for record in records if record.board == name]
    rows = [_row(text, found, board) for text in (before, after)]
    seeds = _seeds((before, after), rows, seed)
    chosen = [_of_seed(row, own) for row, own in zip(rows, seeds, strict=True)]
    _check_protocols([record for side in chosen for record in side])
    first = [side[0] for side in chosen]
    differing = labels([row_key(record) for record in first], first)
    left, right = (
        Side(tuple(side), _joined(side, runs, task), settings) for side, settings in zip(chosen, differing, strict=True)
    )
    modalities = (first[0].modality, first[1].modality)
    comparison = compare(wanted, left.predictions, right.predictions, modalities)
    return Compared(wanted, left, right, comparison, per_class(task, (left, right), modalities))


def _row(text: str, records: Sequence[Record], board: str) -> list[Record]:
    """A record of each seed and fold of the one row that the text names.

    It is the newest, or where a record is named that one, and the newest of its protocol.
    """
    named = [record for record in records if record.id == text]
    parts = text.split("/")
    attributes = ("method", "stage", "modality")[: len(parts)]
    found = named or [r for r in records if [getattr(r, name) for name in attributes] == parts[:3]]
    if not found:
        names = {f"{record.method}/{record.stage}/{record.modality}" for record in records}
        raise unknown(f"row of {board}", text, names)
    keys = RowKeys()
    newest = {keys(record): record for record in sorted(found, key=_age)}
    if len(newest) > 1:
        raise UserError(f"{text} is several rows of {board}; name one by a record's id:\n{_listed(newest)}")
    (key,) = newest
    row = [record for record in records if keys(record) == key]
    protocols = [record.protocol for record in named]
    ordered = sorted(row, key=lambda record: (record.id == text, record.protocol in protocols, _age(record)))
    return list({(record.seed, record.fold): record for record in ordered}.values())


def _age(record: Record) -> tuple[object, str]:
    return record.created, record.id


def _listed(rows: Mapping[RowKey, Record]) -> str:
    """A line a row, with the settings that distinguish it and the id of one of its records."""
    keys, records = list(rows), list(rows.values())
    lines = [
        f"  {key.method}/{key.stage}/{key.modality} ({', '.join(filter(None, (key.variant, key.preset)))})"
        f"{''.join(f' {setting.text}' for setting in settings)}: {record.id}"
        for key, record, settings in zip(keys, records, labels(keys, records), strict=True)
    ]
    return "\n".join(sorted(lines))


def _seeds(texts: Sequence[str], rows: Sequence[Sequence[Record]], seed: int | None) -> list[int]:
    """Each side's: as asked, or that of the record that names it, or the first that both have, or its own first."""
    if seed is not None:
        return [seed] * len(rows)
    named = [[record.seed for record in row if record.id == text] for text, row in zip(texts, rows, strict=True)]
    have = [{record.seed for record in row} for row in rows]
    wanted = [*(each for own in named for each in own), *sorted(set.intersection(*have))]
    return [
        own[0] if own else next((each for each in wanted if each in seeds), min(seeds))
        for own, seeds in zip(named, have, strict=True)
    ]


def _of_seed(row: Sequence[Record], seed: int) -> list[Record]:
    found = sorted((record for record in row if record.seed == seed), key=lambda record: record.fold)
    if not found:
        seeds = ", ".join(sorted({str(record.seed) for record in row}))
        raise UserError(f"{row[0].method} {row[0].stage} has no seed {seed}; there are: {seeds}")
    return found


def _check_protocols(records: Sequence[Record]) -> None:
    """All that is compared, the folds of a side among themselves too, was measured by one protocol."""
    one = records[0]
    for other in records[1:]:
        fields = sorted(one.protocol.keys() | other.protocol.keys())
        differing = [key for key in fields if one.protocol.get(key) != other.protocol.get(key)]
        if not differing:
            continue
        differ = ", ".join(f"{key}: {one.protocol.get(key)} and {other.protocol.get(key)}" for key in differing)
        cure = "; `bench run` measures what is done by the present one" if differing == ["version"] else ""
        raise UserError(f"{one.id} and {other.id} were measured by different protocols, which differ in {differ}{cure}")


def _joined(side: Sequence[Record], runs: Path, task: Task[Any]) -> Predictions:
    """Of all folds. Official splits may score a clip more than once, by models of their own."""
    each = [_predictions(record, runs, task) for record in side]
    if task.board.folds and not task.board.cross_validates:
        each = [
            replace(one, clip_id=[f"{record.fold}{OF_FOLD}{clip}" for clip in one.clip_id])
            for one, record in zip(each, side, strict=True)
        ]
    return task.predictions.joined(each)


def _predictions(record: Record, runs: Path, task: Task[Any]) -> Predictions:
    """What the record was made from."""
    paths = list((runs / record.method).glob(f"*-{record.identity}/{PREDICTIONS}"))
    if not paths:
        raise UserError(
            f"the predictions of {record.id} are not in {runs}; name the folder of its runs with --runs, or repeat it "
            f"(bench run {record.method} seed={record.seed} stage={record.stage})"
        )
    if file_hash(paths[0]) != record.predictions_sha256:
        raise UserError(f"{paths[0]} is not what {record.id} was made from; its hash differs")
    return read_predictions(paths[0], task.predictions)


def per_class(task: Task[Any], sides: Sequence[Side], modalities: Sequence[str]) -> list[tuple[str, float, float]]:
    """(class, before, after), of tasks that measure classes by themselves."""
    if not task.class_score:
        return []
    before, after = (np.asarray(side.predictions.clip_id) for side in sides)
    common = np.intersect1d(before, after)
    values = []
    for side, modality in zip(sides, modalities, strict=True):
        order = np.argsort(side.predictions.clip_id)
        taken = side.predictions.take(order[np.searchsorted(np.asarray(side.predictions.clip_id)[order], common)])
        values.append(task.by_class(modality, taken))
    names = sides[0].predictions.classes or [f"class {number}" for number in range(len(values[0]))]
    both = zip(names, *values, strict=True)
    return [(name, float(a), float(b)) for name, a, b in both if np.isfinite(a) and np.isfinite(b)]


def print_compared(found: Compared, classes: int) -> None:
    """A table of the metrics, and the classes that gain and lose most."""
    sides = (found.before, found.after)
    counts = " and ".join(str(len(side.predictions.clip_id)) for side in sides)
    console.print(f"{found.board.name}\nA  {found.before.name}\nB  {found.after.name}", markup=False)
    console.print(
        f"on the {found.comparison.n} {task_of(found.board).unit} that both were measured on (rows of each: {counts})"
    )
    table = Table("metric", "A", "B", "B - A", "95 % interval", "p", "")
    for difference in found.comparison.differences.values():
        info = difference.info
        scale = 100 if info.percent else 1
        shown = [f"{scale * value:.{info.decimals}f}" for value in (difference.before, difference.after)]
        changes = (difference.change, difference.low, difference.high)
        change, low, high = (f"{scale * value:+.{info.decimals}f}" for value in changes)
        sure = not difference.low <= 0 <= difference.high
        better = ("B is better" if difference.gain > 0 else "A is better") if sure else "inconclusive"
        table.add_row(info.label, *shown, change, f"[{low}, {high}]", f"{difference.p:.3f}", better)
    console.print(table)
    ranked = sorted(found.classes, key=lambda line: line[2] - line[1])
    for title, lines in (("gain", ranked[::-1]), ("lose", ranked)):
        sign = 1 if title == "gain" else -1
        most = [line for line in lines if sign * (line[2] - line[1]) > 0][:classes]
        if most:
            each = ", ".join(f"{name} {100 * a:.1f} -> {100 * b:.1f}" for name, a, b in most)
            console.print(f"classes that {title} most: {each}", markup=False, soft_wrap=True)
