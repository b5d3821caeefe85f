"""Where records and tables lie, and how the tables are rebuilt from the records."""

from __future__ import annotations

import logging
from pathlib import Path

from bench import records, registry, tables

log = logging.getLogger(__name__)


def board_folder(leaderboards: Path, sample: bool) -> Path:
    """The tables' folder: made-up data never stands beside real data."""
    return leaderboards / "sample" if sample else leaderboards


def records_folder(leaderboards: Path, sample: bool) -> Path:
    return board_folder(leaderboards, sample) / "results"


def rebuild(leaderboards: Path, sample: bool) -> list[tables.BoardTable]:
    """Rewrites all tables from the records; files that are no valid records are told and left out.

    Returns:
        The boards that have records.
    """
    found, errors = records.read_all(records_folder(leaderboards, sample))
    for error in errors:
        log.warning("not a record: %s", error)
    tables.write_tables(found, registry.boards().values(), board_folder(leaderboards, sample))
    by_board = {name: [r for r in found if r.board == name] for name in registry.boards()}
    return [tables.board_table(registry.board(name), group) for name, group in by_board.items() if group]
