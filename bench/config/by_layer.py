"""Merges a configuration's layers one by one, so that a mistake is reported with the layer in which it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.config import mixtures
from bench.config.layers import Layer
from bench.config.omegaconf_compat import declared_type, element_type, is_missing, is_none, node
from bench.config.schema import BenchConfig, PartConfig, StageConfig
from bench.errors import UserError
from experiments.common.stage import Stage

if TYPE_CHECKING:
    from datamodules.source import Source


def merge_by_layer(
    layers: list[Layer],
    classes: Mapping[str, type[Stage[Any, Any]] | None],
    sources: Mapping[str, type[Source]],
    file: str,
) -> BenchConfig:
    """See `merge.at_once`; every layer is checked on its own.

    Args:
        file: the method's, which is named for what is missing in all layers.

    Raises:
        UserError: naming the key, where it stands, and the nearest valid name.
    """
    schema, layers = _schema(classes, sources, layers)
    return _merge(schema, layers, file)


def _schema(
    classes: Mapping[str, type[Stage[Any, Any]] | None], sources: Mapping[str, type[Source]], layers: list[Layer]
) -> tuple[DictConfig, list[Layer]]:
    """The typed configuration with its defaults, in which every stage knows its class's options and its dataset's
    defaults, and the layers with `data` spread to the stages."""
    schema = OmegaConf.structured(BenchConfig)
    schema.model = OmegaConf.structured([kind.model_config for kind in classes.values() if kind is not None][-1])
    for name, kind in classes.items():
        stage = OmegaConf.structured(StageConfig)
        if kind is not None:
            stage.options = OmegaConf.structured(kind.options_config)
        if name in sources:
            stage.data = OmegaConf.unsafe_merge(stage.data, sources[name].defaults)
        for part, source in mixtures.sources_of(sources, name).items():
            stage.mixture.parts[part] = OmegaConf.structured(PartConfig)
            stage.mixture.parts[part].data = OmegaConf.merge(stage.mixture.parts[part].data, source.defaults)
        schema.stages[name] = stage
    general = [Layer(x.source, OmegaConf.create({"data": x.values.data})) for x in layers if x.values.get("data")]
    spread = [
        Layer(x.source, OmegaConf.create({"stages": {name: {"data": x.values.data} for name in classes}}))
        for x in general
    ]
    return schema, [*spread, *layers, *_of_parts(layers, sources)]


def _of_parts(layers: list[Layer], sources: Mapping[str, type[Source]]) -> Iterator[Layer]:
    """What holds for the parts of mixtures: `data` of all layers, that of their stages, their own; that, a second time,
    so that a mistake in it has been reported where it was made."""
    own = "stages.{stage}.mixture.parts.{part}.data"
    for key in ("data", "stages.{stage}.data", own):
        for layer in layers:
            for place in sources:
                stage, _, part = place.removeprefix("stages.").partition(".mixture.parts.")
                said = OmegaConf.select(layer.values, key.format(stage=stage, part=part)) if part else None
                if isinstance(said, DictConfig):
                    names = [str(name) for name in said if key == own or name not in mixtures.OWN]
                    parts = {part: {"data": OmegaConf.masked_copy(said, names)}}
                    yield Layer(layer.source, OmegaConf.create({"stages": {stage: {"mixture": {"parts": parts}}}}))


def _merge(schema: DictConfig, layers: list[Layer], file: str) -> BenchConfig:
    """Merges the layers in their order, each checked on its own so that an error names its source; what is
    missing from all of them is an error of the method's `file`."""
    valid = dict.fromkeys(_keys(schema))  # a list that is searched quickly
    for layer in layers:
        for key in _keys(layer.values):
            if key not in valid and not _is_entry(schema, key):
                raise UserError(_unknown_key(key, list(valid), layer.source) + _in_a_list(schema, key))
            below = OmegaConf.select(schema, key)
            if isinstance(below, DictConfig) and below and (value := _value(layer.values, key)) is not None:
                raise UserError(
                    f"{layer.source}: {key}={value!r}: it has keys of its own, e.g. {key}.{next(iter(below))!s}"
                )
        try:
            schema = cast(DictConfig, OmegaConf.unsafe_merge(schema, deepcopy(layer.values)))
        except (OmegaConfBaseException, TypeError) as error:
            key = getattr(error, "full_key", "") or ", ".join(map(str, layer.values))
            value = _value(layer.values, key)
            if isinstance(OmegaConf.select(schema, key), ListConfig) and not isinstance(value, ListConfig):
                raise UserError(f"{layer.source}: {key}={value}: it is a list; write {key}=[{value}]") from error
            raise UserError(f"{layer.source}: {key}: {_first_line(error)}") from error
    try:
        config = OmegaConf.to_object(schema)
    except OmegaConfBaseException as error:
        raise UserError(f"{file}: {error.full_key}: {_first_line(error)}") from error
    assert isinstance(config, BenchConfig)
    return config


def _keys(config: Any, prefix: str = "") -> Iterator[str]:
    """All dotted keys, inner nodes included."""
    if not isinstance(config, (DictConfig, Mapping)) or config is None:
        return
    if isinstance(config, DictConfig) and is_missing(config):
        return
    if isinstance(config, DictConfig) and is_none(config):
        kind = declared_type(config)
        if not is_dataclass(kind):
            return
        config = OmegaConf.structured(kind)  # what may be left out, and has keys where it is not
    for name in config:
        key = f"{prefix}{name}"
        yield key
        if isinstance(config, DictConfig) and (
            OmegaConf.is_missing(config, name) or OmegaConf.is_interpolation(config, name)
        ):
            continue
        yield from _keys(node(config, name) if isinstance(config, DictConfig) else config[name], f"{key}.")


def _in_a_list(schema: DictConfig, key: str) -> str:
    """What is added of a key below one that holds a list."""
    parts = key.split(".")
    above = [".".join(parts[:count]) for count in range(1, len(parts))]
    found = next((each for each in above if isinstance(OmegaConf.select(schema, each), ListConfig)), None)
    return f" At {found} a mapping stands where another has a list: write {found}=[…]." if found else ""


def _value(values: DictConfig, key: str) -> Any:
    """What stands at a key, where it is no mapping."""
    found = OmegaConf.select(values, key)
    return None if isinstance(found, DictConfig) else found


def _is_entry(schema: DictConfig, key: str) -> bool:
    """Whether the key names an entry of a field like `dict[str, str]`, which may have any, or a part of one."""
    names = key.split(".")
    for count in range(len(names) - 1, 0, -1):
        parent = OmegaConf.select(schema, ".".join(names[:count]))
        if isinstance(parent, DictConfig):
            kind = OmegaConf.get_type(parent)
            if kind is dict:
                return _has_entry(element_type(parent), names[count + 1 :])
            return _has_entry(kind, names[count:])  # of an entry that a layer before has made
    return False


def _has_entry(kind: Any, names: list[str]) -> bool:
    """Whether an entry of this type has what the names lead to; stages are all known beforehand."""
    if is_dataclass(kind) and kind is not StageConfig:
        return not names or ".".join(names) in set(_keys(OmegaConf.structured(kind)))
    return kind is Any or (kind is str and not names)


def _unknown_key(key: str, valid: list[str], source: str) -> str:
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.6)
    if not near:  # e.g. `lr` alone: somewhere a key may end like this
        leaf = key.rpartition(".")[2]
        near = difflib.get_close_matches(leaf, [k for k in valid if "." not in k], n=1, cutoff=0.6)
        near = near or [k for k in valid if k.rpartition(".")[2] == leaf][:1]
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{source}: no such key {key!r}.{hint}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
