"""`bench compare A B --board BOARD`: two methods' records, on the clips that both were measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from bench import registry
from bench.boards import records_folder
from bench.compare import Comparison, compare
from bench.errors import UserError, unknown
from bench.identity import file_hash
from bench.metrics import average_precision, top_k
from bench.plan import PREDICTIONS
from bench.records import Record, read_all
from bench.results import read_predictions
from bench.show import console
from bench.tasks import METRICS, Predictions
from datamodules.types import Board


@dataclass(frozen=True)
class Side:
    """One seed of one row of a board; on a board of folds all of its folds."""

    records: tuple[Record, ...]
    predictions: Predictions

    @property
    def name(self) -> str:
        record = self.records[0]
        variant = f" ({record.variant})" if record.variant else ""
        return f"{record.method}{variant} {record.stage} {record.modality}, {record.preset}, seed {record.seed}"


@dataclass(frozen=True)
class Compared:
    """What is told of two sides."""

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
        before, after: `METHOD[/STAGE[/MODALITY]]`, or the id of a record.
        board: its name; `sample/BOARD` for one of made-up data.
        leaderboards: folder of the records.
        runs: folder of the runs, which hold the predictions.
        seed: of both sides; None = the first that both have.

    Raises:
        UserError: no such rows or more than one, other protocols, predictions that are not there or are others.
    """
    name, sample = board.removeprefix("sample/"), board.startswith("sample/")
    wanted = registry.board(name)
    found = [record for record in read_all(records_folder(leaderboards, sample))[0] if record.board == name]
    left, right = (_rows(text, found, board) for text in (before, after))
    _check_protocols(left[0], right[0])
    common = sorted({record.seed for record in left} & {record.seed for record in right})
    if seed is None and not common:  # of different seeds: each side's first
        seeds = tuple(min(record.seed for record in side) for side in (left, right))
    else:
        seeds = (common[0] if seed is None else seed,) * 2
    sides = [_side(side, chosen, runs) for side, chosen in zip((left, right), seeds, strict=True)]
    modalities = (left[0].modality, right[0].modality)
    comparison = compare(wanted, sides[0].predictions, sides[1].predictions, modalities)
    return Compared(wanted, *sides, comparison, per_class(wanted, sides, modalities))


def _rows(text: str, records: Sequence[Record], board: str) -> list[Record]:
    """The newest record of each seed and fold of the one row that the text names."""
    by_id = [record for record in records if record.id == text]
    parts = text.split("/")
    keys = ("method", "stage", "modality")[: len(parts)]
    found = by_id or [r for r in records if [getattr(r, key) for key in keys] == parts[:3]]
    if not found:
        names = {f"{record.method}/{record.stage}/{record.modality}" for record in records}
        raise unknown(f"row of {board}", text, names)
    rows = {(r.method, r.stage, r.modality, r.variant, r.preset) for r in found}
    if len(rows) > 1:
        several = ", ".join(sorted(f"{'/'.join(row[:3])} ({', '.join(filter(None, row[3:]))})" for row in rows))
        raise UserError(f"{text} is several rows of {board}: {several}; name the stage and modality, or a record's id")
    newest = {(r.seed, r.fold): r for r in sorted(found, key=lambda record: (record.created, record.id))}
    return list(newest.values())


def _check_protocols(one: Record, other: Record) -> None:
    fields = sorted(one.protocol.keys() | other.protocol.keys())
    differing = [key for key in fields if one.protocol.get(key) != other.protocol.get(key)]
    if differing:
        told = ", ".join(f"{key}: {one.protocol.get(key)} and {other.protocol.get(key)}" for key in differing)
        cure = "; `bench run` measures what is done by the present one" if differing == ["version"] else ""
        raise UserError(f"{one.id} and {other.id} were measured by different protocols, which differ in {told}{cure}")


def _side(records: Sequence[Record], seed: int, runs: Path) -> Side:
    mine = sorted((record for record in records if record.seed == seed), key=lambda record: record.fold)
    if not mine:
        seeds = ", ".join(sorted({str(record.seed) for record in records}))
        raise UserError(f"{records[0].method} {records[0].stage} has no seed {seed}; there are: {seeds}")
    return Side(tuple(mine), together([_predictions(record, runs) for record in mine]))


def _predictions(record: Record, runs: Path) -> Predictions:
    """What the record was made from."""
    paths = list((runs / record.method).glob(f"*-{record.identity}/{PREDICTIONS}"))
    if not paths:
        raise UserError(
            f"the predictions of {record.id} are not in {runs}; name the folder of its runs with --runs, or repeat it "
            f"(bench run {record.method} seed={record.seed} stage={record.stage})"
        )
    if file_hash(paths[0]) != record.predictions_sha256:
        raise UserError(f"{paths[0]} is not what {record.id} was made from; its hash differs")
    return read_predictions(paths[0])


def together(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of all folds, of which each has clips of its own."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Predictions(
        np.concatenate([np.asarray(part.clip_id) for part in parts]),
        np.concatenate([part.target for part in parts]),
        {name: np.concatenate([part.scores[name] for part in parts]) for name in first.scores},
        similarity=first.similarity,
        classes=first.classes,
    )


def per_class(board: Board, sides: Sequence[Side], modalities: Sequence[str]) -> list[tuple[str, float, float]]:
    """(class, before, after), for boards that measure classes."""
    if board.task not in ("tagging", "classification"):
        return []
    common = np.intersect1d(*(np.asarray(side.predictions.clip_id) for side in sides))
    values = []
    for side, modality in zip(sides, modalities, strict=True):
        order = np.argsort(side.predictions.clip_id)
        taken = side.predictions.take(order[np.searchsorted(np.asarray(side.predictions.clip_id)[order], common)])
        target, score = taken.target > 0, taken.scores[modality]
        if board.task == "tagging":
            values.append(average_precision(target, score))
        else:
            right = top_k(target.argmax(1), score, 1)
            with np.errstate(invalid="ignore"):  # classes without clips
                values.append(right @ target / target.sum(0))
    names = sides[0].predictions.classes or [f"class {number}" for number in range(len(values[0]))]
    both = zip(names, *values, strict=True)
    return [(name, float(a), float(b)) for name, a, b in both if np.isfinite(a) and np.isfinite(b)]


def print_compared(found: Compared, classes: int) -> None:
    """A table of the metrics, and the classes that gain and lose most."""
    sides = (found.before, found.after)
    unit = "videos" if found.board.task == "localisation" or found.board.unit == "video" else "clips"
    counts = " and ".join(str(len(side.predictions.clip_id)) for side in sides)
    console.print(f"{found.board.name}\nA  {found.before.name}\nB  {found.after.name}", markup=False)
    console.print(f"on the {found.comparison.n} {unit} that both were measured on (rows of each: {counts})")
    table = Table("metric", "A", "B", "B - A", "95 % interval", "p", "")
    for name, difference in found.comparison.differences.items():
        info = METRICS[name]
        scale = 100 if info.percent else 1
        shown = [f"{scale * value:.{info.decimals}f}" for value in (difference.before, difference.after)]
        changes = (difference.change, difference.low, difference.high)
        change, low, high = (f"{scale * value:+.{info.decimals}f}" for value in changes)
        sure = not difference.low <= 0 <= difference.high
        better = ("B is better" if difference.gain > 0 else "A is better") if sure else "not told apart"
        table.add_row(info.label, *shown, change, f"[{low}, {high}]", f"{difference.p:.3f}", better)
    console.print(table)
    ranked = sorted(found.classes, key=lambda line: line[2] - line[1])
    for title, lines in (("gain", ranked[::-1]), ("lose", ranked)):
        sign = 1 if title == "gain" else -1
        told = [line for line in lines if sign * (line[2] - line[1]) > 0][:classes]
        if told:
            each = ", ".join(f"{name} {100 * a:.1f} -> {100 * b:.1f}" for name, a, b in told)
            console.print(f"classes that {title} most: {each}", markup=False, soft_wrap=True)
