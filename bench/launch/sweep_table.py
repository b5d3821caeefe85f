"""What a sweep shows: its jobs as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from bench.launch.jobs import State
from bench.launch.sweep import Entry

STYLES = {
    State.WAITS: "dim",
    State.RUNS: "bold cyan",
    State.DONE: "green",
    State.FAILED: "bold red",
    State.NOT_RUN: "red",
}
FIRST_SHOWN = (State.FAILED, State.NOT_RUN, State.RUNS, State.WAITS, State.DONE)
"""Where there is no room for all."""


def counts(states: Mapping[str, State]) -> str:
    """`1 failed, 2 run, 3 wait` in words: `runs 2, waits 3, done 4`; those that there are."""
    number = Counter(states.values())
    return ", ".join(f"{number[state]} {state}" for state in State if number[state])


def to_table(entries: Sequence[Entry], states: Mapping[str, State], rows: int) -> Table:
    """The jobs, at most so many rows of them."""
    table = Table("job", "seed", "settings", "state", title="sweep", title_justify="left", caption_justify="left")
    for entry in _shown(entries, states, rows):
        state = states[entry.job.name]
        settings = " ".join(entry.varied)
        table.add_row(f"{entry.method} {entry.stage}", str(entry.seed), settings, Text(state, STYLES[state]))
    hidden = len(entries) - table.row_count
    table.caption = counts(states) + (f"; {hidden} rows are not shown" if hidden else "")
    return table


def _shown(entries: Sequence[Entry], states: Mapping[str, State], rows: int) -> list[Entry]:
    """In the order of the table."""
    ranked = sorted(entries, key=lambda entry: FIRST_SHOWN.index(states[entry.job.name]))
    kept = {entry.job.name for entry in ranked[:rows]}
    return [entry for entry in entries if entry.job.name in kept]
