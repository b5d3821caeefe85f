"""Which records make one row of a table, and what distinguishes a method's rows. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.config.configured import FILES, Settings
from bench.config.first_settings import first_settings
from bench.records.archive import Record

START = "init"
"""Among a row's settings: the checkpoint that it starts from, by its hash."""
DEFAULT = "default"
"""A label's value where the record does not have it."""
FILE_HASH = re.compile(r"[0-9a-f]{64}")


class RowKey(NamedTuple):
    """A configuration. It has no seed and no fold, nothing of the copy of the data and nothing of the machine."""

    method: str
    variant: str
    preset: str
    stage: str
    modality: str
    settings: str
    """`settings_of` as JSON."""

    @property
    def shown(self) -> tuple[str, ...]:
        """What tables show of it in columns of their own."""
        return self[:5]

    @property
    def without_version(self) -> RowKey:
        """The same for all versions of the method's code."""
        settings = json.loads(self.settings)
        settings.pop("version", None)
        return self._replace(settings=json.dumps(settings, sort_keys=True))


def row_key(record: Record) -> RowKey:
    """The key of the record's row."""
    return _key(record, json.dumps(settings_of(record), sort_keys=True))


def _key(record: Record, settings: str) -> RowKey:
    return RowKey(record.method, record.variant, record.preset, record.stage, record.modality, settings)


class RowKeys:
    """`row_key` of many records, made once for those that share a configuration (as `records.Brief` lets them)."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[Record, str]] = {}

    def __call__(self, record: Record) -> RowKey:
        shared = (record.method, id(record.config), id(record.settings), id(record.parents))
        if shared not in self._known:  # keeps the record, so that no other object takes its parts' places
            self._known[shared] = record, row_key(record).settings
        return _key(record, self._known[shared][1])


def settings_of(record: Record) -> Settings:
    """What of the record's configuration determines its result and is unlike its default, by dotted keys."""
    found = first_settings(record.method, record.config) if record.settings is None else dict(record.settings)
    start = [parent.identity for parent in record.parents if parent.stage == "init"]
    return found | ({START: start} if start else {})


class Setting(NamedTuple):
    """A setting that distinguishes a row from others."""

    key: str
    """As on the command line."""
    name: str
    """Without what the row's stage says."""
    value: str
    is_file: bool = False
    """Whether it names a file, by the beginning of its hash."""

    @property
    def text(self) -> str:
        return f"{self.name}={self.value}"


def labels(keys: Sequence[RowKey], records: Sequence[Record]) -> list[tuple[Setting, ...]]:
    """The settings in which one of these rows differs from another that tables show alike.

    Args:
        keys: of the rows.
        records: one of each row.
    """
    alike: dict[tuple[str, ...], list[int]] = {}
    for index, key in enumerate(keys):
        alike.setdefault(key.shown, []).append(index)
    found: list[tuple[Setting, ...]] = [()] * len(records)
    for group in alike.values():
        if len(group) > 1:
            settings = {index: json.loads(keys[index].settings) for index in group}
            differ = _differing(list(settings.values()))
            for index in group:
                found[index] = tuple(_label(key, settings[index], records[index]) for key in differ)
    return found


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    names = sorted({name for each in settings for name in each})
    missing = object()
    first, *others = settings
    return [name for name in names if any(each.get(name, missing) != first.get(name, missing) for each in others)]


def _label(key: str, settings: Mapping[str, Any], record: Record) -> Setting:
    """Named `epochs` where it is of the row's own stage, `pretrain.epochs` of one before it."""
    own = f"stages.{record.stage}."
    name = key.removeprefix(own) if key.startswith(own) else key.removeprefix("stages.")
    value = settings[key] if key in settings else _default(key, record)
    if key.endswith(FILES) and isinstance(value, str) and FILE_HASH.fullmatch(value):
        return Setting(key, name, value[:8], is_file=True)
    if key == START and isinstance(value, list):
        value = [str(each)[:8] for each in value]
    if isinstance(value, list):
        value = f"[{','.join(map(str, value))}]"
    return Setting(key, name, str(value) if isinstance(value, str | int | float) else json.dumps(value))


def _default(key: str, record: Record) -> Any:
    """What the record's whole configuration says, where it is at hand."""
    if key in ("version", START):
        return 1 if key == "version" else None
    first, _, rest = key.partition(".")
    part: Any = record.config.get(first)
    if first == "stages" and isinstance(part, Mapping):
        stage, _, rest = rest.partition(".")
        part = part.get(f"{stage}_{record.fold}", part.get(stage))
    for name in rest.split("."):
        if not isinstance(part, Mapping) or name not in part:
            return DEFAULT
        part = part[name]
    return part
