"""How a configuration is composed, and how mistakes in it are reported.

One order, later wins: `bench` defaults (the dataclasses) -> dataset (`Source.defaults`) -> method (`config.yaml`)
-> preset -> variant -> command line (`key=value`). `data` holds for all stages; `stages.<name>.data` on top of it
for one. Every key is checked against its type before anything is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench import registry
from bench.config import folds
from bench.config.launched import as_launched
from bench.config.omegaconf_compat import declared_type, element_type, is_missing, is_none, node
from bench.config.schema import BenchConfig, StageConfig
from bench.errors import UserError, unknown
from experiments.common.stage import Stage


@dataclass(frozen=True)
class Layer:
    """One source of configuration, and its name in error messages."""

    source: str
    values: DictConfig


def compose(method: str, overrides: Sequence[str] = ()) -> BenchConfig:
    """The configuration of a method under a preset, a variant and command line overrides.

    Args:
        method: its name.
        overrides: `key=value`, OmegaConf dot list.

    Raises:
        UserError: naming the key, where it stands, and the nearest valid name.
    """
    command_line = Layer("command line", _parse_overrides(overrides))
    file = registry.method_folder(method) / "config.yaml"
    content = OmegaConf.load(file)
    presets, variants = content.pop("presets", {}), content.pop("variants", {})
    content.pop("version", None)

    data_root = command_line.values.get("data_root") or command_line.values.get("data", {}).get("root")
    preset = command_line.values.get("preset") or ("paper" if data_root else "tiny")
    if preset not in presets:
        raise unknown(f"preset of {method}", str(preset), presets)
    variant = command_line.values.get("variant") or ""
    if variant and variant not in variants:
        raise unknown(f"variant of {method}", str(variant), variants)
    layers = [Layer(str(file), content), Layer(f"{file}, preset {preset}", presets[preset] or OmegaConf.create())]
    if variant:
        layers.append(Layer(f"{file}, variant {variant}", variants[variant]))
    layers.append(command_line)

    layers, stage_names = _drop_removed_stages(layers)
    schema, layers = _schema(method, stage_names, layers)
    schema.method, schema.preset, schema.variant = method, preset, variant
    config = folds.expand(_merge(schema, layers))
    config.trainer = as_launched(config.trainer)
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


def _drop_removed_stages(layers: list[Layer]) -> tuple[list[Layer], list[str]]:
    """A preset, a variant or the command line removes a stage with `stages.<name>: null`."""
    removed_by: dict[str, str | None] = {}
    for layer in layers:
        for name, stage in (layer.values.get("stages") or {}).items():
            remover = removed_by.get(name)
            if remover and stage is not None and "module" not in stage:
                raise UserError(f"{layer.source}: stages.{name}: this stage is left out by {remover}")
            removed_by[name] = layer.source if stage is None else None
    for layer in layers:
        for name in [n for n in layer.values.get("stages") or {} if removed_by[n]]:
            del layer.values.stages[name]
    return layers, [name for name, remover in removed_by.items() if not remover]


def _schema(method: str, stage_names: list[str], layers: list[Layer]) -> tuple[DictConfig, list[Layer]]:
    """The typed configuration with its defaults, in which every stage knows its class's options and its dataset's
    defaults, and the layers with `data` spread to the stages."""
    module = registry.method_module(method)
    raw = OmegaConf.merge(*({"stages": layer.values.get("stages", {})} for layer in layers))
    schema = OmegaConf.structured(BenchConfig)
    model_config = None
    for name in stage_names:
        stage = OmegaConf.structured(StageConfig)
        if not raw.stages[name].get("ensemble"):
            stage_class = _stage_class(module, method, name, raw.stages[name].get("module"))
            model_config = stage_class.model_config
            stage.options = OmegaConf.structured(stage_class.options_config)
        dataset = raw.stages[name].get("dataset")
        if dataset is not None:
            stage.data = OmegaConf.merge(stage.data, registry.dataset(dataset).defaults)
        schema.stages[name] = stage
    if model_config is None:
        raise UserError(f"{method} has no stages under this preset")
    schema.model = OmegaConf.structured(model_config)
    general = [Layer(x.source, OmegaConf.create({"data": x.values.data})) for x in layers if x.values.get("data")]
    spread = [
        Layer(x.source, OmegaConf.create({"stages": {name: {"data": x.values.data} for name in stage_names}}))
        for x in general
    ]
    return schema, [*spread, *layers]


def _stage_class(module: Any, method: str, stage: str, class_name: str | None) -> type[Stage]:
    classes = {k: v for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, Stage) and v is not Stage}
    if class_name is None:
        raise unknown(f"stage of {method}", stage, registry_stage_names(method))
    if class_name not in classes:
        raise unknown(f"stage class in {method}/method.py (stages.{stage}.module)", class_name, classes)
    return classes[class_name]


def registry_stage_names(method: str) -> list[str]:
    """The stages that the method's `config.yaml` declares."""
    return list(OmegaConf.load(registry.method_folder(method) / "config.yaml").get("stages", {}))


def stage_class(config: BenchConfig, stage: str) -> type[Stage] | None:
    """The LightningModule class of a stage; None: an ensemble."""
    if config.stages[stage].ensemble:
        return None
    module = registry.method_module(config.method)
    return _stage_class(module, config.method, stage, config.stages[stage].module)


def _merge(schema: DictConfig, layers: list[Layer]) -> BenchConfig:
    """Merges the layers in their order, each checked on its own so that a mistake is told with its source."""
    valid = list(_keys(schema))
    for layer in layers:
        for key in _keys(layer.values):
            if key not in valid and not _is_entry(schema, key):
                raise UserError(_unknown_key(key, valid, layer.source))
        try:
            schema = OmegaConf.merge(schema, layer.values)
        except OmegaConfBaseException as error:
            key = error.full_key or "?"
            raise UserError(f"{layer.source}: {key}: {_first_line(error)}") from error
    try:
        config = OmegaConf.to_object(schema)
    except OmegaConfBaseException as error:
        raise UserError(f"{layers[0].source}: {error.full_key}: {_first_line(error)}") from error
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
