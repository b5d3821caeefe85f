"""Where records and tables lie, and how the tables are rebuilt from the records."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench import registry
from bench.errors import unknown
from bench.records import published
from bench.records.archive import Brief, Record, read_all, uncollected
from bench.records.published import PublishedMethod
from bench.tables.board_table import BoardTable, board_table
from bench.tables.formats import to_csv, to_markdown
from bench.tables.overview import overview
from bench.tasks import board_of
from datamodules.boards import Board
from datamodules.files import replacing

PUBLISHED = "published.yaml"
"""The papers' own numbers, in the leaderboards' folder."""

OVERVIEW = "README.md"

log = logging.getLogger(__name__)


def board_folder(leaderboards: Path, sample: bool) -> Path:
    """The tables' folder: made-up data never stands beside real data."""
    return leaderboards / "sample" if sample else leaderboards


def records_folder(leaderboards: Path, sample: bool) -> Path:
    """Where the records lie."""
    return board_folder(leaderboards, sample) / "results"


@uncollected()
def rebuild(leaderboards: Path, sample: bool) -> list[BoardTable]:
    """Rewrites all tables from the records; files that are not valid records are logged and left out.

    Returns:
        The boards that have records.
    """
    tables = current_tables(leaderboards, sample)
    write_tables(tables, board_folder(leaderboards, sample))
    if not sample:
        _write_if_changed(leaderboards / OVERVIEW, _overview(tables, leaderboards))
    return [table for table in tables if not table.empty]


def current_tables(leaderboards: Path, sample: bool) -> list[BoardTable]:
    """The tables of all boards; files that are not valid records are logged and left out."""
    found, errors = read_all(records_folder(leaderboards, sample), Brief())
    for error in errors:
        log.warning("not a record: %s", error)
    return make_tables(found, known_boards(found), papers(leaderboards, sample))


def known_boards(records: Iterable[Record]) -> list[Board]:
    """Those of the datasets that are here, and those of other records, as their newest ones define them."""
    here = registry.boards()
    defined: dict[str, Board] = {}
    for record in sorted(records, key=lambda record: (record.created, record.id)):
        if record.board not in here and record.board_definition:
            defined[record.board] = board_of(record.board_definition)
    return [*here.values(), *defined.values()]


def find_board(name: str, records: Iterable[Record]) -> Board:
    """One of `known_boards`.

    Raises:
        UserError: no dataset and no record has a board of this name.
    """
    boards = {board.name: board for board in known_boards(records)}
    if name not in boards:
        raise unknown("board", name, boards)
    return boards[name]


@uncollected()
def check(leaderboards: Path, sample: bool) -> list[str]:
    """What is wrong with the records and their tables, a line each; nothing is written."""
    found, errors = read_all(records_folder(leaderboards, sample), Brief())
    boards = known_boards(found)
    known = {board.name for board in boards}
    wrong = [str(error) for error in errors]
    wrong += [
        f"{record.id}: board: no board is called {record.board!r}" for record in found if record.board not in known
    ]
    wrong += [f"{r.id}: sample: {r.sample}, in a folder of the others" for r in found if r.sample != sample]
    if wrong:
        return wrong
    folder = board_folder(leaderboards, sample)
    tables = make_tables(found, boards, papers(leaderboards, sample))
    files = [*_files(tables, folder), *([] if sample else [(leaderboards / OVERVIEW, _overview(tables, leaderboards))])]
    for path, text in files:
        if _content(path) != text:
            wrong.append(f"{path}: {'not of these records' if text else 'a board without records'}; run `bench table`")
    return wrong


def _overview(tables: Iterable[BoardTable], leaderboards: Path) -> str:
    here = {name: Path("..", "experiments", name, "README.md") for name in registry.methods()}
    links = {name: path.as_posix() for name, path in here.items() if (leaderboards / path).is_file()}
    return overview(tables, papers(leaderboards, sample=False), registry.methods(), links)


def papers(leaderboards: Path, sample: bool) -> list[PublishedMethod]:
    """The published numbers, which never stand beside made-up data."""
    path = leaderboards / PUBLISHED
    return published.read(path) if path.is_file() and not sample else []


def make_tables(
    records: Iterable[Record], boards: Iterable[Board], papers: Sequence[PublishedMethod] = ()
) -> list[BoardTable]:
    """The table of each board, by name; that of a board without records is empty.

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
    return [board_table(board, by_board[board.name], papers) for board in boards]


def write_tables(tables: Iterable[BoardTable], folder: Path) -> list[Path]:
    """Writes `<folder>/<board>.csv` and `.md` of each board that has records, and removes those of boards without.

    Returns:
        The files that changed.
    """
    return [path for path, text in _files(tables, folder) if _write_if_changed(path, text)]


def _files(tables: Iterable[BoardTable], folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Each file with its text; None: there is to be none."""
    for table in tables:
        for suffix, render in (("csv", to_csv), ("md", to_markdown)):
            yield folder / f"{table.board.name}.{suffix}", None if table.empty else render(table)


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _write_if_changed(path: Path, text: str | None) -> bool:
    """Atomically; None removes the file. Returns whether anything changed."""
    if _content(path) == text:
        return False
    if text is None:
        path.unlink()
        return True
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return True
