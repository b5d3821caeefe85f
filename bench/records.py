"""The run record: what a measured stage leaves behind, one immutable JSON file each.

A record carries all that is needed to believe its numbers and to repeat them. Records of two people merge by copying
files: a file's name is the record's id, which ends in a hash of its content, and a written file never changes.

A new optional field needs no new schema. For any other change raise `SCHEMA`, keep the old class, and turn its records
into new ones in `parse`: files of old schemas are read for ever.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)

from bench.errors import UserError

SCHEMA = 1
MAX_BYTES = 1 << 20
"""A record is a few kilobytes; a larger file is none."""
PIECE = 1000
"""Files that a process reads at a time: few enough that what they take in memory is used again for the next ones."""
ALONE = 4
"""Pieces up to which other processes would take longer to start than they save."""
FINITE = json.JSONEncoder(allow_nan=False)
NO_FIELDS: set[str] = set()
"""One for all; who copies a record copies it, too."""

Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=200)]
"""A name that is safe as a file name, in a table and on a command line."""
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+@-]*$", max_length=100)]
"""A key: of a metric, a note, a library."""
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{8,128}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Amount = Annotated[float, Field(ge=0)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
"""A metric's value; none comes near these bounds."""
Scalar = str | int | float | bool | None


class _Part(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, str_max_length=2000, validate_by_name=True
    )


class MetricValue(_Part):
    """A value and its 95 % bootstrap interval over clips. Fractions are stored as 0..1, not as percent."""

    value: Number
    low: Number
    high: Number

    @model_validator(mode="after")
    def _value_in_interval(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"value {self.value} is not in its interval [{self.low}, {self.high}]")
        return self


class DataUse(_Part):
    """The clips of a split that were there and used."""

    dataset: Slug
    split: Slug
    fingerprint: Hash
    """Of the clip ids and labels used."""
    official: Count
    """Clips the dataset's official files list for the split."""
    used: Count
    excluded: dict[str, Count] = {}
    """Reason -> clips."""
    coverage: Annotated[float, Field(ge=0, le=1)]
    """used / official."""

    @model_validator(mode="after")
    def _coverage_is_share(self) -> Self:
        if self.used > self.official:
            raise ValueError(f"used {self.used} is more than official {self.official}")
        share = self.used / self.official if self.official else 0.0
        if abs(self.coverage - share) > 1e-3:
            raise ValueError(f"coverage {self.coverage} is not used / official = {share:.4f}")
        return self


class Parent(_Part):
    """A stage that this one's weights come from, however far back, or a file given as `init`."""

    stage: Slug
    identity: Slug
    """The stage's identity; for a file its SHA-256."""
    data: str = Field("", pattern=r"^[A-Za-z0-9._+, -]*$")
    """What it was trained on, as the tables show it, e.g. `audioset`; empty if not known."""


class Cost(_Part):
    """What the stage took, evaluation included; None where it was not measured."""

    wall_seconds: Amount | None = None
    device_hours: Amount | None = None
    """Wall time times devices."""
    total_device_hours: Amount | None = None
    """Including all parents."""
    samples_per_second: Amount | None = None
    """Training clips, over all devices."""
    data_wait: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the training time that the first process waited for clips."""
    parameters: Count | None = None
    flops: Amount | None = None
    """Of one clip's forward pass."""
    peak_memory_bytes: Count | None = None


class Record(_Part):
    """Schema 1. Build it with `new_record`, which fills in `id`."""

    schema_version: Literal[1] = Field(SCHEMA, alias="schema")
    id: Slug
    created: AwareDatetime
    method: Slug
    variant: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]*)?$", max_length=100)
    preset: Slug
    stage: Slug
    board: Slug
    protocol: dict[Name, Scalar]
    """`Board.protocol()`: all that must be equal for two scores to be comparable."""
    sample: bool
    """Measured on the made-up sample data."""
    modality: Literal["a", "v", "t", "av", "at", "vt", "avt"]
    seed: int
    fold: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]*)?$", max_length=100)
    """Which part of a cross-validation, where the board has one."""
    metrics: Annotated[dict[Name, MetricValue], Field(min_length=1)]
    chance: dict[Name, Number] = {}
    n: Annotated[int, Field(ge=1)]
    """Clips scored."""
    notes: dict[Name, Scalar] = {}
    data: DataUse
    """The split that was scored."""
    train: DataUse | None = None
    """The split that this stage was trained on."""
    parents: tuple[Parent, ...] = ()
    """From the first stage to the last before this one."""
    config: dict[str, JsonValue]
    config_hash: Hash
    """Of all configuration that determines the result, except the seed and the fold."""
    identity: Slug
    """Of the stage: the hash of all that determines its result."""
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    dirty: bool | None = None
    """Whether the tree had uncommitted changes; None if there is no repository."""
    versions: dict[Name, str] = {}
    hardware: dict[Name, Scalar] = {}
    cost: Cost = Cost()
    predictions_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    scored_precision: str = ""
    """In which the scores were computed, whatever the training's precision; empty: in that (older records)."""
    predictions_commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    """The code that gave out the predictions, where they were measured again by that of `commit`."""

    @field_validator("created")
    @classmethod
    def _created_is_utc(cls, created: datetime) -> datetime:
        if created.utcoffset() != timedelta(0):
            raise ValueError(f"{created.isoformat()} is not UTC")
        return created

    @field_validator("config")
    @classmethod
    def _finite(cls, values: dict[str, Any]) -> dict[str, Any]:
        """`allow_inf_nan` does not reach into a `JsonValue`."""
        try:
            FINITE.encode(values)  # in C: looking at each number here takes half of the time of reading
        except ValueError:
            for key, value in _numbers(values):
                if not math.isfinite(value):
                    raise ValueError(f"{key} is {value}; NaN and infinite numbers are not allowed") from None
        return values

    def to_json(self) -> str:
        """The file's text: sorted keys, so that it can be compared and reviewed."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=1, sort_keys=True, allow_nan=False) + "\n"


class RecordError(UserError, ValueError):
    """A record that cannot be trusted; the message names the file, the field and the reason."""


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{path}.{index}")
    elif isinstance(value, float):
        yield path, value


def new_record(**fields: Any) -> Record:
    """A valid record with its id: method, stage, board, modality, and a hash of all fields.

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
    digest = hashlib.sha256(draft.to_json().encode()).hexdigest()[:16]
    return draft.model_copy(update={"id": f"{draft.method}-{draft.stage}-{draft.board}-{draft.modality}-{digest}"})


def write(record: Record, folder: Path) -> Path:
    """Writes `<folder>/<id>.json` whole or not at all, and never over another record.

    Raises:
        FileExistsError: if the file is there with other content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = record.to_json()
    path = folder / f"{parse(text, record.id).id}.json"  # a `model_copy` with wrong fields does not pass
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
        RecordError: naming the file, each wrong field and why; also if the file is not named after the record's id.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise RecordError(f"{path}: {size} bytes; a record has at most {MAX_BYTES}")
            text = file.read()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    record = parse(text, str(path))
    if path.name != f"{record.id}.json":
        raise RecordError(f"{path}: id: {record.id!r} is not the file's name")
    return record


class Brief:
    """Makes records small: without what no table shows, and with one object for what many of them say alike."""

    SHARED = ("protocol", "chance", "notes", "data", "train", "parents")

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Any] = {}

    def __call__(self, record: Record) -> Record:
        shared = {name: getattr(record, name) for name in self.SHARED}
        shared = {name: self._known.setdefault((name, repr(value)), value) for name, value in shared.items()}
        brief = record.model_copy(update={"config": {}, "versions": {}, "hardware": {}, **shared})
        for part in (brief, brief.data, brief.train, brief.cost, *brief.parents, *brief.metrics.values()):
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
