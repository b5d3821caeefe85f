"""Which kinds of stream there are, and the streams that settings name.

A kind is a `Stream` class with a `kind` in a file of this folder, or one that somebody else's distribution names in the
entry point group `avl_bench.streams`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Set
from dataclasses import fields, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

from datamodules.errors import DataError
from datamodules.found import classes_of
from datamodules.streams.kind import FIELDS, LENGTH, Stream
from datamodules.streams.reading import MediaFile
from datamodules.types import FEATURE_KEYS, AugmentConfig, Batch, Inputs, RawBatch

KIND_OF = {"audio": "log_mel", "video": "frames", "text": "tokens", "video_feat": "vectors"}
"""Streams of `FIELDS` -> their kinds."""
TAKEN = {*Batch.__annotations__, *RawBatch.__annotations__, *FEATURE_KEYS.values()}
"""Keys of a batch, which no other stream can have."""

PLACED = {"kind", "row", "window", "augment", "options"}
"""Settings that streams of all kinds have."""


@cache
def kinds() -> dict[str, str]:
    """Kind -> `module:Class`, without importing any."""
    package = __name__.rpartition(".")[0]
    ours = classes_of(Path(__file__).parent, package, "Stream", "kind")
    return ours | {entry.name: entry.value for entry in entry_points(group="avl_bench.streams")}


def kind(name: str, where: str = "data.inputs.streams") -> type[Stream[Any]]:
    """The class of a kind.

    Raises:
        DataError: there is no such kind, or what is registered under its name is no `Stream` of it.
    """
    if name not in kinds():
        near = difflib.get_close_matches(name, kinds(), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{where}: no such kind of stream: {name!r}.{hint} There are: {', '.join(sorted(kinds()))}")
    module, _, attribute = kinds()[name].partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not (isinstance(found, type) and issubclass(found, Stream) and found.kind == name):
        raise DataError(
            f"kind of stream {name}: {kinds()[name]} is no subclass of datamodules.streams.kind.Stream that says "
            f"kind = {name!r}"
        )
    return found


def streams_of(inputs: Inputs) -> dict[str, Stream[Any]]:
    """The streams that are read, by name.

    Raises:
        DataError: for settings that no kind has, naming the key.
    """
    streams = {
        name: kind(KIND_OF[name])(name, getattr(inputs, field))
        for name, field in FIELDS.items()
        if getattr(inputs, field) is not None
    }
    streams |= {name: _stream(name, inputs) for name in inputs.streams}
    for stream in streams.values():
        for part in stream.part_names:
            if f"{stream.name}_{part}" in inputs.streams:
                raise DataError(
                    f"data.inputs.streams.{stream.name}_{part}: a batch has the {part} of {stream.name} under this "
                    f"name; choose another"
                )
    return streams


def media_of(inputs: Inputs) -> list[MediaFile]:
    """The files that a clip must have."""
    wanted = {stream.media for stream in streams_of(inputs).values()}
    return [file for file in get_args(MediaFile) if file in wanted]


def columns_of(inputs: Inputs) -> tuple[str, ...]:
    """Columns of the dataset's table with what is read of it, each once."""
    return tuple(dict.fromkeys(column for stream in streams_of(inputs).values() for column in stream.columns))


def looked_at(inputs: Inputs, modalities: Set[str]) -> Inputs:
    """The inputs without the streams of other modalities."""
    none: dict[str, Any] = {
        field: None for name, field in FIELDS.items() if kind(KIND_OF[name]).modality not in modalities
    }
    seen = {name for name in inputs.streams if _stream(name, inputs).modality in {"", *modalities}}
    others = {name: settings for name, settings in inputs.streams.items() if name in seen}
    return replace(inputs, **none, streams=others)


def only(inputs: Inputs, name: str) -> Inputs:
    """The inputs without all streams but one."""
    none: dict[str, Any] = {field: None for other, field in FIELDS.items() if other != name}
    return replace(inputs, **none, streams={other: own for other, own in inputs.streams.items() if other == name})


def _stream(name: str, inputs: Inputs) -> Stream[Any]:
    """A stream that `data.inputs.streams` names."""
    where, settings = f"data.inputs.streams.{name}", inputs.streams[name]
    if not name.isidentifier() or name in TAKEN or name.endswith(f"_{LENGTH}"):
        raise DataError(
            f"{where}: no stream can be called {name!r}; choose a name of letters, digits and _ that batches do not "
            f"have yet"
        )
    if not isinstance(settings, Mapping) or "kind" not in settings:
        raise DataError(f"{where}.kind says what is read; there are: {', '.join(sorted(kinds()))}")
    found = kind(str(settings["kind"]), f"{where}.kind")
    own = {key: value for key, value in settings.items() if key not in PLACED} | dict(settings.get("options", {}))
    stream = found(name, _typed(found.options_type, own, where, found.kind))
    stream.row, stream.window = str(settings.get("row", "")), str(settings.get("window", ""))
    for setting, names in (("row", inputs.rows), ("window", inputs.windows)):
        if getattr(stream, setting) not in {"", *names}:
            raise DataError(
                f"{where}.{setting}={getattr(stream, setting)}: data.inputs.{setting}s has no such {setting}; "
                f"there are: {', '.join(names) or 'none'}"
            )
    if stream.row:
        stream.clips = inputs.rows[stream.row].count
    if stream.window:
        stream.windows = inputs.windows[stream.window].count
    if "augment" in settings:
        _typed(AugmentConfig, settings["augment"], f"{where}.augment", "augmentation")
        stream.augment = dict(settings["augment"])
    return stream


def _typed(of: type, settings: Mapping[str, Any], where: str, what: str) -> Any:
    """The settings as a dataclass.

    Raises:
        DataError: for one that it has not, or of another type.
    """
    from omegaconf import OmegaConf  # the loader's processes need none of it
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(of), dict(settings)))
    except OmegaConfBaseException as error:
        names = ", ".join(field.name for field in fields(of)) or "no settings"
        raise DataError(f"{where}.{error.full_key}: {str(error).splitlines()[0]}; {what} has {names}") from error
