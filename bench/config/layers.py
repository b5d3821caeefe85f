"""The layers of a configuration as they are written: files that include others, stages named by patterns, stages that
are left out."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from bench import registry
from bench.errors import UserError, unknown


@dataclass(frozen=True)
class Layer:
    """One source of configuration, and its name in error messages."""

    source: str
    values: DictConfig


def read(file: Path) -> dict[str, Any]:
    """What a file of settings says, as plain data that may be changed."""
    return deepcopy(_parsed(str(file), file.read_text(encoding="utf-8")))


@cache
def _parsed(file: str, text: str) -> dict[str, Any]:
    """Parsing takes its time, and the same text is parsed whenever something is composed."""
    stream = io.StringIO(text)
    stream.name = file  # for YAML's errors
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(stream)))


def with_included(layer: Layer, folder: Path) -> list[Layer]:
    """The files that a layer names in `include`, each a layer of its own before it, and the layer.

    Args:
        layer: of a `config.yaml`, a preset or a variant.
        folder: where its files are, beside those of `registry.RECIPES`, which all methods share.

    Raises:
        UserError: there is no such file, or it includes itself.
    """
    return _with_included(layer, folder, ())


def _with_included(layer: Layer, folder: Path, above: tuple[Path, ...]) -> list[Layer]:
    names = layer.values.pop("include", None) or []
    found: list[Layer] = []
    for name in [names] if isinstance(names, str) else names:
        path = _recipe(str(name), folder, layer.source)
        if path in above:
            raise UserError(f"{layer.source}: include: {name} includes itself")
        included = Layer(str(path), OmegaConf.create(read(path)))
        found += _with_included(included, path.parent, (*above, path))
    return [*found, layer]


def _recipe(name: str, folder: Path, source: str) -> Path:
    for place in (folder, registry.RECIPES):
        if (path := place / name).is_file() and name != "config.yaml":
            return path
    there = {file.name for place in (folder, registry.RECIPES) for file in place.glob("*.yaml")}
    raise unknown(f"file to include ({source})", name, there - {"config.yaml"})


def by_name(layers: list[Layer]) -> list[Layer]:
    """The layers, in which every stage is named by itself where a pattern such as `finetune_*` named several.

    A pattern means the stages that its layer or an earlier one names, but for those that are left out. In one layer a
    later pattern wins over an earlier one, except that a stage which one of them leaves out stays out, and what is said
    of a stage by its own name wins over all patterns.

    Raises:
        UserError: for a pattern of no stage.
    """
    there: dict[str, bool] = {}
    for layer in layers:
        stages = layer.values.get("stages") or {}
        there |= {name: stages[name] is not None for name in stages if not _is_pattern(name)}
        if any(map(_is_pattern, stages)):
            written = cast(dict[str, Any], OmegaConf.to_container(stages))
            layer.values.stages = _named(layer.source, written, there)
            there |= {name: own is not None for name, own in layer.values.stages.items()}
    return layers


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


def _named(source: str, stages: Mapping[str, Any], there: Mapping[str, bool]) -> dict[str, Any]:
    """One layer's stages by their own names."""
    found: dict[str, Any] = {}
    for pattern in filter(_is_pattern, stages):
        alike = [name for name in there if fnmatchcase(name, pattern)]
        if not alike:
            raise unknown(f"stage ({source}: stages.{pattern})", pattern, there)
        for name in alike:
            if there[name] and found.get(name, {}) is not None:
                found[name] = _merged(found.get(name, {}), stages[pattern])
    own = {name: value for name, value in stages.items() if not _is_pattern(name)}
    return found | {name: _merged(found.get(name) or {}, value) for name, value in own.items()}


def _merged(earlier: Any, later: Any) -> Any:
    """Mappings are merged key by key; whatever else is later wins."""
    if not isinstance(earlier, Mapping) or not isinstance(later, Mapping):
        return later
    return {**earlier, **{key: _merged(earlier.get(key), value) for key, value in later.items()}}


def without_removed(layers: list[Layer]) -> tuple[list[Layer], list[str]]:
    """The layers without the stages that a preset, a variant or the command line leaves out (`stages.<name>: null`),
    and the names of the others.

    Raises:
        UserError: for settings of a stage that an earlier layer left out.
    """
    each = [(layer, "stages", stages) for layer in layers if (stages := layer.values.get("stages"))]
    removed_by = _take_out_removed(each, what="stage", begins_with="module")
    return layers, [name for (_, name), remover in removed_by.items() if not remover]


def without_removed_parts(layers: list[Layer]) -> list[Layer]:
    """The layers without the parts of mixtures that one of them leaves out (`mixture.parts.<name>: null`).

    Raises:
        UserError: for settings of a part that an earlier layer left out.
    """
    each = [(layer, place, parts) for layer in layers for place, parts in _parts(layer)]
    _take_out_removed(each, what="part", begins_with="dataset")
    return layers


def _take_out_removed(
    each: Sequence[tuple[Layer, str, Any]], what: str, begins_with: str
) -> dict[tuple[str, str], str | None]:
    """Takes out of mappings what the last layer that names it leaves out.

    Args:
        each: a layer, a place, and the mapping that stands there.
        what: its entries are, for messages.
        begins_with: the setting by which a layer may begin anew what an earlier one left out.

    Returns:
        (place, name) -> the layer that leaves it out, or None.

    Raises:
        UserError: for other settings of what an earlier layer left out.
    """
    removed_by: dict[tuple[str, str], str | None] = {}
    for layer, place, entries in each:
        for name, entry in entries.items():
            remover = removed_by.get((place, name))
            if remover and entry is not None and begins_with not in entry:
                raise UserError(f"{layer.source}: {place}.{name}: this {what} is left out by {remover}")
            removed_by[place, name] = layer.source if entry is None else None
    for _, place, entries in each:
        for name in [n for n in entries if removed_by[place, n]]:
            del entries[name]
    return removed_by


def _parts(layer: Layer) -> Iterator[tuple[str, Any]]:
    """`stages.<stage>.mixture.parts` and what a layer says there."""
    for name, stage in (layer.values.get("stages") or {}).items():
        mixture = (stage or {}).get("mixture") if isinstance(stage, Mapping | DictConfig) else None
        if isinstance(parts := (mixture or {}).get("parts"), DictConfig):
            yield f"stages.{name}.mixture.parts", parts
