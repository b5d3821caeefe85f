"""Where records and tables lie, and how the tables are rebuilt from the records."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from bench import registry
from bench.records import Brief, Record, read_all
from bench.table_text import to_csv, to_markdown
from bench.tables import BoardTable, board_table
from datamodules.files import replacing
from datamodules.types import Board

log = logging.getLogger(__name__)


def board_folder(leaderboards: Path, sample: bool) -> Path:
    """The tables' folder: made-up data never stands beside real data."""
    return leaderboards / "sample" if sample else leaderboards


def records_folder(leaderboards: Path, sample: bool) -> Path:
    return board_folder(leaderboards, sample) / "results"


def rebuild(leaderboards: Path, sample: bool) -> list[BoardTable]:
    """Rewrites all tables from the records; files that are no valid records are told and left out.

    Returns:
        The boards that have records.
    """
    found, errors = read_all(records_folder(leaderboards, sample), Brief())
    for error in errors:
        log.warning("not a record: %s", error)
    tables = make_tables(found, registry.boards().values())
    write_tables(tables, board_folder(leaderboards, sample))
    return [table for table in tables if not table.empty]


def make_tables(records: Iterable[Record], boards: Iterable[Board]) -> list[BoardTable]:
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
    return [board_table(board, by_board[board.name]) for board in boards]


def write_tables(tables: Iterable[BoardTable], folder: Path) -> list[Path]:
    """Writes `<folder>/<board>.csv` and `.md` of each board that has records, and removes those of boards without.

    Returns:
        The files that changed.
    """
    changed = []
    for table in tables:
        for suffix, render in (("csv", to_csv), ("md", to_markdown)):
            path = folder / f"{table.board.name}.{suffix}"
            if _write_if_changed(path, None if table.empty else render(table)):
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
