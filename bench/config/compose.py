"""How a configuration is composed, and how mistakes in it are reported.

One order, later wins: `bench` defaults (the dataclasses) -> dataset (`Source.defaults`) -> method (`config.yaml`)
-> preset -> variant -> command line (`key=value`). A file, a preset or a variant may `include` files, which come right
before it. `data` holds for all stages, `stages.<name>.data` on top of it for one; `stages.<pattern>` means several
stages (`layers.py`). Every key is checked against its type before anything is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench import registry
from bench.config import folds
from bench.config.defaults import stage_classes
from bench.config.launched import as_launched
from bench.config.layers import Layer, by_name, with_included, without_removed
from bench.config.omegaconf_compat import declared_type, element_type, is_missing, is_none, node
from bench.config.schema import BenchConfig, StageConfig, StageObjects
from bench.errors import UserError, unknown
from datamodules.frozen import freeze
from experiments.common.stage import Stage

if TYPE_CHECKING:
    from datamodules.source import Source


def compose(method: str, overrides: Sequence[str] = ()) -> BenchConfig:
    """The configuration of a method under a preset, a variant and command line overrides. It is frozen, and its stages
    carry what their names stand for.

    Args:
        method: its name.
        overrides: `key=value`, OmegaConf dot list.

    Raises:
        UserError: naming the key, where it stands, and the nearest valid name.
    """
    command_line = Layer("command line", _parse_overrides(overrides))
    file = registry.method_folder(method) / "config.yaml"
    content = cast(DictConfig, OmegaConf.load(file))
    presets, variants = content.pop("presets", {}), content.pop("variants", {})
    content.pop("version", None)

    data_root = command_line.values.get("data_root") or command_line.values.get("data", {}).get("root")
    preset = command_line.values.get("preset") or ("paper" if data_root else "tiny")
    if preset not in presets:
        raise unknown(f"preset of {method}", str(preset), presets)
    variant = command_line.values.get("variant") or ""
    if variant and variant not in variants:
        raise unknown(f"variant of {method}", str(variant), variants)
    written = [Layer(str(file), content), Layer(f"{file}, preset {preset}", presets[preset] or OmegaConf.create({}))]
    if variant:
        written.append(Layer(f"{file}, variant {variant}", variants[variant]))
    declared = list(content.get("stages", {}))
    layers = [each for layer in written for each in with_included(layer, file.parent)]
    layers, stage_names = without_removed(by_name([*layers, command_line]))

    raw = OmegaConf.merge(*({"stages": layer.values.get("stages", {})} for layer in layers)).stages
    classes = _classes(method, {name: raw[name] for name in stage_names}, declared)
    sources = {name: registry.dataset(own.dataset) for name, own in raw.items() if own.get("dataset") is not None}
    schema, layers = _schema(classes, sources, layers)
    schema.method, schema.preset, schema.variant = method, preset, variant
    config = _merge(schema, layers, str(file))
    for name, stage in config.stages.items():
        board = registry.board(stage.board) if stage.board else None
        stage.carry(StageObjects(sources[name], board, classes[name]))
    config = folds.expand(config)
    config.trainer = as_launched(config.trainer)
    freeze(config)
    return config


def _parse_overrides(overrides: Sequence[str]) -> DictConfig:
    for override in overrides:
        if "=" not in override:
            raise UserError(f"{override!r} is not key=value, e.g. seed=1 or stages.pretrain.epochs=2")
    items = list(overrides)
    for i, item in enumerate(items):
        if item.startswith("stage=") and not item.startswith("stage=["):
            items[i] = f"stage=[{item.removeprefix('stage=')}]"
    try:
        return OmegaConf.from_dotlist(items)
    except Exception as error:  # YAML's errors have no common base that OmegaConf exports
        raise UserError(f"command line: {' '.join(overrides)}: {_first_line(error)}") from error


def _classes(
    method: str, stages: Mapping[str, DictConfig], declared: list[str]
) -> dict[str, type[Stage[Any, Any]] | None]:
    """Stage -> its class; None: an ensemble.

    Args:
        stages: name -> what the layers say of it.
        declared: the stages of the method's own file.
    """
    known = stage_classes(method)
    classes: dict[str, type[Stage[Any, Any]] | None] = {}
    for name, stage in stages.items():
        if stage.get("ensemble"):
            classes[name] = None
        elif (module := stage.get("module")) is None:
            raise unknown(f"stage of {method}", name, declared)
        elif module not in known:
            raise unknown(f"stage class in {method}/method.py (stages.{name}.module)", module, known)
        else:
            classes[name] = known[module]
    if not any(classes.values()):
        raise UserError(f"{method} has no stages under this preset")
    return classes


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
            stage.data = OmegaConf.merge(stage.data, sources[name].defaults)
        schema.stages[name] = stage
    general = [Layer(x.source, OmegaConf.create({"data": x.values.data})) for x in layers if x.values.get("data")]
    spread = [
        Layer(x.source, OmegaConf.create({"stages": {name: {"data": x.values.data} for name in classes}}))
        for x in general
    ]
    return schema, [*spread, *layers]


def _merge(schema: DictConfig, layers: list[Layer], file: str) -> BenchConfig:
    """Merges the layers in their order, each checked on its own so that an error names its source; what is
    missing from all of them is an error of the method's `file`."""
    valid = list(_keys(schema))
    for layer in layers:
        for key in _keys(layer.values):
            if key not in valid and not _is_entry(schema, key):
                raise UserError(_unknown_key(key, valid, layer.source))
        try:
            schema = cast(DictConfig, OmegaConf.merge(schema, layer.values))
        except OmegaConfBaseException as error:
            key = error.full_key or "?"
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


def _is_entry(schema: DictConfig, key: str) -> bool:
    """Whether the key names an entry of a field like `dict[str, str]`, which may have any."""
    parent = OmegaConf.select(schema, key.rpartition(".")[0])
    return isinstance(parent, DictConfig) and element_type(parent) is str


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
