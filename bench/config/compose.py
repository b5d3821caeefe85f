"""How a configuration is composed, and how mistakes in it are reported.

One order, later wins: `bench` defaults (the dataclasses) -> dataset (`Source.defaults`) -> method (`config.yaml`)
-> preset -> variant -> command line (`key=value`). A file, a preset or a variant may `include` files, which come right
before it. `data` holds for all stages, `stages.<name>.data` on top of it for one; `stages.<pattern>` means several
stages (`layers.py`). Every key is checked against its type before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench import registry
from bench.config import folds, merge, mixtures
from bench.config.by_layer import merge_by_layer
from bench.config.defaults import stage_classes
from bench.config.launched import as_launched
from bench.config.layers import Layer, by_name, read, with_included, without_removed, without_removed_parts
from bench.config.schema import BenchConfig, StageObjects
from bench.errors import UserError, unknown
from datamodules.boards import Board
from datamodules.frozen import freeze
from experiments.common.stage import Stage

if TYPE_CHECKING:
    pass

NAMES = ["module", "ensemble", "dataset", "mixture"]
"""Of a stage, what decides about the types of the rest."""
OF_THE_CODE = ("version", "parameters")
"""What a method's file says of its code, which is no setting."""


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
    content = read(file)
    presets, variants = content.pop("presets", {}), content.pop("variants", {})
    for own in OF_THE_CODE:
        content.pop(own, None)

    data = command_line.values.get("data")
    data_root = command_line.values.get("data_root") or (isinstance(data, DictConfig) and data.get("root"))
    preset = command_line.values.get("preset") or ("paper" if data_root else "tiny")
    if preset not in presets:
        raise unknown(f"preset of {method}", str(preset), presets)
    variant = command_line.values.get("variant") or ""
    if variant and variant not in variants:
        raise unknown(f"variant of {method}", str(variant), variants)
    said = {str(file): content, f"{file}, preset {preset}": presets[preset]}
    if variant:
        said[f"{file}, variant {variant}"] = variants[variant]
    written = [Layer(source, OmegaConf.create(values or {})) for source, values in said.items()]
    _check_stages([*written, command_line])
    declared = list(content.get("stages", {}))
    layers = [each for layer in written for each in with_included(layer, file.parent)]
    layers, stage_names = without_removed(by_name([*layers, command_line]))
    layers = without_removed_parts(layers)

    try:
        raw = _named_objects(layers)
    except TypeError as error:  # it does not say where
        raise UserError(f"{layers[-1].source} or {file}: stages: a mapping stands where another has a list") from error
    classes = _classes(method, {name: raw[name] for name in stage_names}, declared)
    sources = {name: registry.dataset(own.dataset) for name, own in raw.items() if own.get("dataset") is not None}
    for name, own in raw.items():
        for part, of_part in ((own.get("mixture") or {}).get("parts") or {}).items():
            place = mixtures.where(name, part)
            if not of_part or of_part.get("dataset") is None:
                raise UserError(f"{place}.dataset: name the dataset of this part")
            if of_part.dataset not in registry.datasets():
                raise unknown(f"dataset ({place}.dataset)", of_part.dataset, registry.datasets())
            sources[place] = registry.dataset(of_part.dataset)
    layers.append(Layer(str(file), OmegaConf.create({"method": method, "preset": preset, "variant": variant})))
    try:
        config = merge.at_once(layers, classes, sources)
    except (OmegaConfBaseException, merge.NotAtOnce, TypeError):  # OmegaConf's of a mapping instead of a list
        config = merge_by_layer(layers, classes, sources, str(file))
    for name, stage in config.stages.items():
        board = registry.board(stage.board) if stage.board else None
        _check_features(name, board, classes[name], classes)
        stage.carry(StageObjects(sources[name], board, classes[name], mixtures.sources_of(sources, name)))
    config = folds.expand(config)
    config.trainer = as_launched(config.trainer)
    freeze(config)
    return config


def _named_objects(layers: Sequence[Layer]) -> dict[str, Any]:
    """Stage -> what the layers say of it that stands for an object."""

    def named(stage: Any) -> Any:
        return OmegaConf.masked_copy(stage, NAMES) if isinstance(stage, DictConfig) else stage

    found = [{name: named(stage) for name, stage in (layer.values.get("stages") or {}).items()} for layer in layers]
    return cast(dict[str, Any], dict(OmegaConf.merge(*found).items()))


def _check_stages(layers: Sequence[Layer]) -> None:
    """Raises a UserError: a layer's stages are no mappings."""
    for layer in layers:
        stages = layer.values.get("stages", {})
        for key, value in {"stages": stages, **(stages if isinstance(stages, DictConfig) else {})}.items():
            if value is not None and not isinstance(value, DictConfig) and value != {}:
                where = key if key == "stages" else f"stages.{key}"
                raise UserError(f"{layer.source}: {where}={value}: it has keys of its own, e.g. stages.NAME.epochs")


def _check_features(
    name: str,
    board: Board | None,
    stage_class: type[Stage[Any, Any]] | None,
    others: Mapping[str, type[Stage[Any, Any]] | None],
) -> None:
    """Raises a UserError: a board of frozen features would be given what a network has learned on it. Of an ensemble
    each member is looked at by itself."""
    if board is None or board.features != "frozen" or stage_class is None or stage_class.frozen:
        return
    judges = sorted({each.__name__ for each in others.values() if each is not None and each.frozen})
    other = f"take a class that trains a classifier alone ({', '.join(judges) or 'such as a LinearProbe'})"
    if board.name.removesuffix("-linear") in registry.boards():
        other += f", or report to {board.name.removesuffix('-linear')}"
    raise UserError(
        f"stages.{name}.board={board.name} measures frozen features, and {stage_class.__name__} trains more than a "
        f"classifier of them; {other}"
    )


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
        raise UserError(f"command line: {' '.join(overrides)}: {str(error).splitlines()[0]}") from error


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
