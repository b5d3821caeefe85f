"""Rows that a board does not show, as other protocols measured them: why, and what to run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench import registry
from bench.config.folds import base_name
from bench.config.starts import NAMED
from bench.records.record import Record
from bench.tables.row import Row
from bench.tables.row_key import DEFAULT, START

VIEWS = ("views", "crops")
"""Keys of a protocol that hide no row: how often a clip is looked at."""


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
        return f"{name} {record.modality}: {self.why}; {self._cure}"

    @property
    def command(self) -> str:
        """What makes the row; `FILE` and `FOLDER` stand for what records do not have."""
        record = self.row.newest
        words = [record.method, f"preset={record.preset}", *([f"variant={record.variant}"] if record.variant else [])]
        words += [f"stage={record.stage}", *([] if record.sample else ["data_root=FOLDER"]), *_starts(record)]
        for each in self.row.differing_settings:
            if each.key not in (START, "version") and each.value != DEFAULT:
                words.append(f"{each.key}={'FILE' if each.is_file else each.value}")
        seeds = sorted({each.seed for each in self.row.records})
        return f"python -m bench sweep {shlex.join(words)} --seeds {' '.join(map(str, seeds))}"

    @property
    def _cure(self) -> str:
        """Stored predictions are found, and measured again, only by the identity that a stage has today."""
        method = self.row.newest.method
        if method not in registry.methods():
            return f"{self.command} makes it anew where {method} is installed"
        if any(record.settings is None for record in self.row.records):
            return f"it was made before identities changed, {self.command} makes it anew"
        made, now = version(self.row), registry.method_version(method)
        if made != now:
            return f"it was made by version {made} of {method}, now {now}, {self.command} makes it anew"
        return f"{self.command} measures it again"


def version(row: Row) -> int:
    """Of the method's code that made the row."""
    found = (row.newest.settings or {}).get("version", 1)
    return found if isinstance(found, int) else 1


def _starts(record: Record) -> Iterator[str]:
    """`init=FILE`, and `stages.pretrain.init=FILE` where a stage has its own, for the files that the record's weights
    come from."""
    given = {parent.identity for parent in record.parents if parent.stage == "init"} - set(NAMED)
    stages = record.config.get("stages")
    own: dict[str, str] = {}
    for name, stage in (stages if isinstance(stages, Mapping) else {}).items():
        if isinstance(stage, Mapping) and isinstance(start := stage.get("init"), str) and start not in NAMED:
            fold = stage.get("fold")
            own[base_name(name, fold if isinstance(fold, int) else 0)] = start
    if given - set(own.values()) and given.issuperset(own.values()):  # that of a folder is none of its files'
        yield "init=FILE"
    yield from (f"stages.{name}.init=FILE" for name in sorted(own))


def unlike(then: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What two protocols differ in."""
    names = [name for name in sorted({*then, *now}) if name not in VIEWS and then.get(name) != now.get(name)]
    return ", ".join(
        f"protocol {name.replace('_', ' ')} {then.get(name, 'none')}, now {now.get(name, 'none')}" for name in names
    )
