"""Merges a configuration's layers as plain mappings and gives the result its types once: composing takes a fifth of the
time of `by_layer`, which must be called where this fails, as only that knows in which layer a mistake stands."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import field, fields, make_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_type_hints

from omegaconf import OmegaConf

from bench.config import mixtures
from bench.config.layers import Layer
from bench.config.schema import BenchConfig, StageConfig
from datamodules.types import DataConfig
from experiments.common.optim import OptimConfig
from experiments.common.stage import Stage

if TYPE_CHECKING:
    from datamodules.source import Source

Plain = dict[str, Any]
Settings = TypeVar("Settings")

_TYPED: dict[tuple[type, str, str], Any] = {}
"""(dataclass, field, repr of what is said of it) -> its value: OmegaConf takes its time, and most stages are alike."""


class NotAtOnce(Exception):
    """The layers say something whose meaning depends on the layers' order or on other settings."""


def at_once(
    layers: list[Layer], classes: Mapping[str, type[Stage[Any, Any]] | None], sources: Mapping[str, type[Source]]
) -> BenchConfig:
    """The configuration: in each stage, `data` of all layers comes right after its dataset's defaults.

    Args:
        layers: the later wins.
        classes: stage -> its class; None: an ensemble.
        sources: stage, or the place of a part's settings -> its dataset.

    Raises:
        NotAtOnce: there are `${…}`, or settings of what an earlier layer switched off.
        OmegaConfBaseException: a key that does not exist, or a value of another type.
    """
    whole: Plain = {}
    for layer in layers:
        whole = _merged(whole, cast(Plain, OmegaConf.to_container(layer.values)))
    if "${" in repr(whole):
        raise NotAtOnce
    said: Plain = whole.pop("stages", None) or {}
    model, data = whole.pop("model", {}), whole.get("data") or {}
    config = _typed(BenchConfig, whole)
    config.model = _typed([kind.model_config for kind in classes.values() if kind is not None][-1], model)
    for name, kind in classes.items():
        defaults = sources[name].defaults if name in sources else {}
        own = _merged({"data": _merged(defaults, data)}, said[name])
        own["mixture"] = _mixture(said[name], data, mixtures.sources_of(sources, name))
        config.stages[name] = _stage(kind, own)
    return config


def _mixture(said: Plain, data: Plain, sources: Mapping[str, type[Source]]) -> Plain:
    """What a stage says of its mixture, in which the `data` of each part is whole.

    Args:
        said: of the stage.
        data: of all layers.
        sources: part -> its dataset.
    """
    mixture: Plain = said.get("mixture", {})
    if not sources:
        return mixture
    general = mixtures.inherited(_merged(data, said.get("data", {})))
    parts = {
        name: _merged({"data": _merged(sources[name].defaults, general)}, own) for name, own in mixture["parts"].items()
    }
    return mixture | {"parts": parts}


def _stage(kind: type[Stage[Any, Any]] | None, said: Plain) -> StageConfig:
    options = said.pop("options", {})
    if kind is None and options:
        raise NotAtOnce
    data, optim = _typed(DataConfig, said.pop("data")), _typed(OptimConfig, said.pop("optim", {}))
    return replace(
        _typed(StageConfig, said),
        data=data,
        optim=optim,
        options=_typed(kind.options_config, options) if kind else None,
    )


def _typed(kind: type[Settings], settings: Any) -> Settings:
    """The dataclass with these settings and the defaults of all others."""
    types = _field_types(cast(type, kind))
    if not isinstance(settings, Mapping) or not settings.keys() <= types.keys():
        raise NotAtOnce
    return kind(**{name: _value(kind, name, settings) for name in types})


def _value(kind: type, name: str, settings: Mapping[str, Any]) -> Any:
    """A field's value by itself: what is said of it, or its default."""
    said = {name: settings[name]} if name in settings else {}
    key = kind, name, repr(said)
    if key not in _TYPED:
        merged = OmegaConf.unsafe_merge(OmegaConf.structured(_field_types(kind)[name]), said)
        _TYPED[key] = getattr(OmegaConf.to_object(merged), name)
    return deepcopy(_TYPED[key])


@cache
def _field_types(kind: type) -> dict[str, type]:
    """Field -> a dataclass that has it alone."""
    hints = get_type_hints(kind)
    return {
        f.name: make_dataclass(
            f.name, [(f.name, hints[f.name], field(default=f.default, default_factory=f.default_factory))]
        )
        for f in fields(kind)
    }


def _merged(earlier: Mapping[str, Any], later: Any) -> Plain:
    """Mappings are merged key by key; whatever else is later wins.

    Raises:
        NotAtOnce: for settings of what was `null`: they change the defaults of its type, whatever stood before; and for
            a value instead of a mapping, which is a mistake.
    """
    if not isinstance(later, Mapping):
        raise NotAtOnce
    merged = dict(earlier)
    for key, value in later.items():
        if isinstance(value, Mapping) and key in merged:
            if not isinstance(merged[key], Mapping):
                raise NotAtOnce
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged
