"""The run record: what a measured stage leaves behind, one immutable JSON file each.

A record carries all that is needed to believe its numbers and to repeat them. Records of two people merge by copying
files: a file's name is the record's id, which ends in a hash of its content, and a written file never changes.

A new optional field needs no new schema. For any other change raise `SCHEMA`, keep the old class of `record.py`, and
turn its records into new ones in `parse`: files of old schemas are read for ever.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import UserError
from bench.records.record import (
    FINITE,
    SCHEMA,
    Record,
    json_text,
)

MAX_BYTES = 1 << 20
"""A record is a few kilobytes; a larger file is none."""
PIECE = 1000
"""Files that a process reads at a time: few enough that what they take in memory is used again for the next ones."""
ALONE = 4
"""Pieces up to which other processes would take longer to start than they save."""
NO_FIELDS: set[str] = set()
"""One for all; who copies a record copies it, too."""


class RecordError(UserError, ValueError):
    """A record that cannot be trusted; the message names the file, the field and the reason."""


def new_record(**fields: Any) -> Record:
    """A valid record with its id: method, stage, board, modality, and the hash of its text, see `hash_of`.

    Args:
        fields: of `Record`, without `id`; parts may be dicts. `created` is now if it is not given.

    Raises:
        RecordError: naming each wrong field and why.
    """
    fields.setdefault("created", datetime.now(UTC))
    try:
        draft = Record(**fields, id="draft")
    except ValidationError as error:
        raise RecordError(f"record: {_reasons(error)}") from None
    content = draft.model_dump(mode="json", by_alias=True)
    name = f"{draft.method}-{draft.stage}-{draft.board}-{draft.modality}"
    return parse(json_text(content | {"id": f"{name}-{hash_of(json_text(content), 'draft')}"}), name)


def hash_of(text: str | bytes, name: str) -> str:
    """The hash in a record's id: of the file's own text, whatever fields it has, but for the id `name` itself."""
    content = text.encode() if isinstance(text, str) else text
    plain = content.replace(f'\n "id": "{name}"'.encode(), b'\n "id": "draft"', 1)
    return hashlib.sha256(plain).hexdigest()[:16]


def write(record: Record, folder: Path) -> Path:
    """Writes `<folder>/<id>.json` whole or not at all, and never over another record.

    Raises:
        FileExistsError: if the file is there with other content.
        RecordError: if it is not what its id says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = record.to_json()
    path = folder / f"{record.id}.json"
    checked(text, path.name, record.id)  # a `model_copy` does not pass
    with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".record-", suffix=".tmp", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(file.name, path)
        except FileExistsError:
            if path.read_text(encoding="utf-8") != text:
                raise FileExistsError(f"{path} holds another record; records are never overwritten") from None
    return path


def parse(text: str | bytes, source: str) -> Record:
    """A record from its JSON text; `source` names it in errors.

    Raises:
        RecordError: naming the source, each wrong field and why.
    """
    if len(text) > MAX_BYTES:
        raise RecordError(f"{source}: {len(text)} bytes; a record has at most {MAX_BYTES}")
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        version = _schema_of(text)
        if isinstance(version, int) and version > SCHEMA:
            raise RecordError(f"{source}: schema: {version} is newer than this program reads; update it") from None
        raise RecordError(f"{source}: {_reasons(error)}") from None


def _schema_of(text: str | bytes) -> Any:
    try:
        return json.loads(text).get("schema")
    except (ValueError, AttributeError, RecursionError):
        return None


def _reasons(error: ValidationError, shown: int = 10) -> str:
    reasons = []
    for item in error.errors(include_url=False)[:shown]:
        field = ".".join(map(str, item["loc"]))[:100] or "record"
        given = "" if item["type"] in ("missing", "json_invalid", "value_error") else f" (got {item['input']!r:.60})"
        reasons.append(f"{field}: {item['msg']}{given}")
    more = error.error_count() - shown
    return "; ".join(reasons) + (f"; and {more} more" if more > 0 else "")


def read(path: Path) -> Record:
    """One record.

    Raises:
        RecordError: naming the file, each wrong field and why; also if the file's name is not the record's id, or its
            text is not what was written under it.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise RecordError(f"{path}: {size} bytes; a record has at most {MAX_BYTES}")
            text = file.read()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    return checked(text, path.name, str(path))


def checked(text: str | bytes, file_name: str, source: str) -> Record:
    """A record from the text of a file of this name; `source` names it in errors.

    Raises:
        RecordError: as `read` does.
    """
    record = parse(text, source)
    if file_name != f"{record.id}.json":
        raise RecordError(f"{source}: id: {record.id!r} is not the file's name")
    if record.id.rpartition("-")[2] != hash_of(text, record.id):
        raise RecordError(f"{source}: id: its hash is not the file's; it was changed after it was written")
    return record


class Brief:
    """Makes records small: without what no table shows, and with one object for what many of them say alike."""

    SHARED = (
        "protocol",
        "board_definition",
        "board_metrics",
        "chance",
        "notes",
        "data",
        "train",
        "parents",
        "packages",
    )
    CONFIGURATION = ("config", "settings")

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}
        self._configurations: dict[bytes, Any] = {}

    def __call__(self, record: Record) -> Record:
        shared = {name: getattr(record, name) for name in self.SHARED}
        shared = {name: self._known.setdefault((name, repr(value)), value) for name, value in shared.items()}
        for name in self.CONFIGURATION:
            text = FINITE.encode(value := getattr(record, name))
            shared[name] = self._configurations.setdefault(hashlib.sha256(text.encode()).digest(), value)
        brief = record.model_copy(update={"versions": {}, "hardware": {}, **shared})
        parts = (*brief.parents, *brief.metrics.values(), *brief.board_metrics, *brief.packages)
        for part in (brief, brief.data, brief.train, brief.cost, *parts):
            # Pydantic notes for each object which fields were given to it: 2 KB for a record. Nobody asks.
            if part is not None:
                object.__setattr__(part, "__pydantic_fields_set__", NO_FIELDS)
        return brief


def read_all(folder: Path, take: Callable[[Record], Record] | None = None) -> tuple[list[Record], list[RecordError]]:
    """All records of a folder in the order of their ids, and what is wrong with the files that are none.

    A folder that does not exist has no records. Many files are read by all cores.

    Args:
        folder: of the files.
        take: makes what is kept of each record, e.g. `Brief()`; None = all of it.
    """
    with uncollected():
        found = _read_files(sorted(map(str, folder.glob("*.json"))), take)
        records = [item for item in found if isinstance(item, Record)]
        records.sort(key=lambda record: record.id)
    return records, [item for item in found if isinstance(item, RecordError)]


def _read_files(paths: Sequence[str], take: Callable[[Record], Record] | None) -> list[Record | RecordError]:
    pieces = [paths[start : start + PIECE] for start in range(0, len(paths), PIECE)]
    if len(pieces) <= ALONE:
        each = [_read_each(piece, take) for piece in pieces]
    else:  # not forked: the caller may have threads
        workers = min(len(pieces), os.cpu_count() or 1)
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            each = list(pool.map(_read_each, pieces, itertools.repeat(take)))
    return [item for piece in each for item in piece]


def _read_each(paths: Sequence[str], take: Callable[[Record], Record] | None) -> list[Record | RecordError]:
    found: list[Record | RecordError] = []
    with uncollected():
        for path in paths:
            try:
                record = read(Path(path))
                found.append(take(record) if take else record)
            except RecordError as error:
                found.append(error)
    return found


@contextmanager
def uncollected() -> Iterator[None]:
    """Within, Python does not search for cycles among objects. Records are part of none, and looking through very many
    of them again and again takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
