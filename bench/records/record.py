"""What a record is made of; `archive.py` writes and reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from datamodules.types import Modality

SCHEMA: Final = 1
FINITE = json.JSONEncoder(allow_nan=False)

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


class Package(_Part):
    """Where a method, a dataset or a task comes from that is none of the suite's own."""

    role: Literal["method", "dataset", "task"]
    name: Slug
    """Of the method, dataset or task."""
    distribution: str
    """The installed package that brings it."""
    version: str
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    """Of the repository that holds its source, or from which it was installed."""
    dirty: bool | None = None
    """Whether its repository had uncommitted changes; None where it does not lie in one."""
    source_sha256: Hash
    """Of its source: all files of the package that it is in, helpers too, but for what Python leaves there; of the one
    file where it is in no package."""


class ShownMetric(_Part):
    """How a metric is read and shown."""

    name: Name
    label: str
    better: Literal["higher", "lower"]
    percent: bool
    decimals: Annotated[int, Field(ge=0, le=6)]


class ValidationUse(_Part):
    """How a stage's training was validated, and the epoch whose weights it kept."""

    stage: Slug
    data: DataUse
    metric: Name
    keep: Literal["best", "last"]
    """The epoch that is kept."""
    epoch: Annotated[int, Field(ge=1)]
    """That one; the first is 1."""
    value: Number
    """Of the metric after this epoch."""
    n: Count
    """Clips that were measured then."""
    epochs: Annotated[int, Field(ge=1)]
    """That the stage trained, fewer than configured where it no longer improved."""


class StageCost(_Part):
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
    board_definition: dict[Name, JsonValue] = {}
    """All fields of the `Board`, so that it can be shown where its dataset is not installed."""
    board_metrics: tuple[ShownMetric, ...] = ()
    """The board's metrics in the order of its table."""
    sample: bool
    """Measured on the made-up sample data."""
    modality: Modality
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
    train_parts: tuple[DataUse, ...] = ()
    """Those of other datasets that it was trained on beside this."""
    validations: tuple[ValidationUse, ...] = ()
    """Of this stage and of those that it comes from, the first one first; not of stages that validate nothing."""
    parents: tuple[Parent, ...] = ()
    """From the first stage to the last before this one."""
    config: dict[str, JsonValue]
    settings: dict[str, JsonValue] | None = None
    """What of the configuration determines the result and is unlike its default, see `configured.of_row`; None in
    older records."""
    config_hash: Hash
    """Of all that determines the result, except the seed and the fold."""
    identity: Slug
    """Of the stage: the hash of all that determines its result."""
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")] | None = None
    dirty: bool | None = None
    """Whether the tree had uncommitted changes; None if there is no repository."""
    packages: tuple[Package, ...] = ()
    """Of what is outside the suite: the method, the datasets of this stage and of those it comes from, and its task."""
    versions: dict[Name, str] = {}
    hardware: dict[Name, Scalar] = {}
    cost: StageCost = StageCost()
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

    @field_validator("config", "settings", "board_definition")
    @classmethod
    def _finite(cls, values: dict[str, Any] | None) -> dict[str, Any] | None:
        """`allow_inf_nan` does not reach into a `JsonValue`."""
        try:
            FINITE.encode(values)  # in C: looking at each number here takes half of the time of reading
        except ValueError:
            for key, value in _numbers(values or {}):
                if not math.isfinite(value):
                    raise ValueError(f"{key} is {value}; NaN and infinite numbers are not allowed") from None
        return values

    def to_json(self) -> str:
        """The file's text: sorted keys, so that it can be compared and reviewed.

        Of a record that was read it is the text that was read: fields that came later are not in it.
        """
        return json_text(self.model_dump(mode="json", by_alias=True, exclude_unset=True))


def json_text(content: Mapping[str, Any]) -> str:
    """A record's content as it is written and hashed."""
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{path}.{index}")
    elif isinstance(value, float):
        yield path, value
