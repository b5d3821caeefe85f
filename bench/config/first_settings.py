"""The settings of records that do not name those that are unlike their defaults: all records up to November 2026.

They hold the whole configuration, whose defaults of that time are in `first_defaults.json`. Of a method of another
package only the present ones are known, where it is installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench import registry
from bench.config.configured import MACHINE, Settings, chosen_precision, counted, is_below, of_row, without
from bench.config.parts import parts_of_a_batch

DEFAULTS = Path(__file__).parent / "first_defaults.json"
MOST = 1 << 20
"""Larger batches and numbers of devices are none that a run had."""


def first_settings(method: str, config: Mapping[str, Any]) -> Settings:
    """What `configured.of_row` gives, from a record's whole configuration, be it ever so odd."""
    usual, of_method = _defaults(), _of_method(method)
    trainer = _mapping(config.get("trainer"))
    raw = {name: own for name, own in _mapping(config.get("stages")).items() if isinstance(own, Mapping)}
    stages = {name: _stage(own, usual, of_method) | _parts(own, trainer, of_method) for name, own in raw.items()}
    model = dict(_unlike(_mapping(config.get("model")), of_method.get("model", {}), {}, ""))
    parts = {_part(own, of_method) for own in raw.values()}
    model = {key: value for key, value in model.items() if any(is_below(key, part) for part in parts)}
    settings = dict(_unlike(trainer, usual["trainer"], {}, ""))
    trains = any(own.get("train") for own in raw.values())
    settings = without(settings, (*MACHINE, "accumulate", "precision", *(() if trains else ("grad_clip",))))
    others = {key: value for key, value in config.items() if key not in ("model", "stages", "trainer")}
    # Methods and datasets were of version 1.
    return of_row(stages, model, settings | chosen_precision(str(trainer.get("precision", "auto"))), 1, {}) | others


@cache
def _defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = json.loads(DEFAULTS.read_text(encoding="utf-8"))
    return defaults


@cache
def _of_method(method: str) -> Mapping[str, Any]:
    """Its defaults; none where it is neither the suite's nor installed, so that all of its settings count."""
    known: Mapping[str, Mapping[str, Any]] = _defaults()["methods"]
    if method in known or method not in registry.methods():
        return known.get(method, {})
    from bench.config.defaults import of_method  # imports the method, and torch

    try:
        return of_method(method)
    except ImportError:
        return {}


def _stage(own: Mapping[str, Any], usual: Mapping[str, Any], of_method: Mapping[str, Any]) -> Settings:
    options = of_method.get("options", {}).get(str(own.get("module")), {}) if own.get("options") else own.get("options")
    settings = dict(_unlike(own, {**usual["stage"], "options": options}, usual["optional"], ""))
    fold = settings.get("fold")
    return counted({key: value for key, value in settings.items() if key != "fold"}, bool(own.get("train"))) | (
        {"fold": fold} if isinstance(fold, int) else {}
    )


def _parts(own: Mapping[str, Any], trainer: Mapping[str, Any], of_method: Mapping[str, Any]) -> Settings:
    """As `parts` of a planned stage, where its class compares the clips of a batch."""
    if not own.get("train") or own.get("module") not in of_method.get("compares", ()):
        return {}
    name = str(own.get("dataset"))
    narrated = name in registry.datasets() and registry.dataset(name).narrated
    narration = _mapping(_mapping(own.get("data")).get("narration"))
    parts = parts_of_a_batch(
        _count(own.get("batch_size"), 64),
        _count(trainer.get("devices"), 1) * _count(trainer.get("nodes"), 1),
        _count(trainer.get("device_batch"), 0),
        _count(narration.get("per_video"), 1) if narrated else 1,
    )
    return {"parts": parts} if parts > 1 else {}


def _count(value: Any, default: int) -> int:
    return value if isinstance(value, int) and 0 < value < MOST else default


def _part(own: Mapping[str, Any], of_method: Mapping[str, Any]) -> str:
    """The part of the model that a stage is built from; all of it where that is not known."""
    part = of_method.get("part", {}).get(str(own.get("module")), "")
    return str(_mapping(own.get("options")).get("network", "")) if part == "options.network" else part


def _unlike(value: Any, default: Any, optional: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """As `configured.unlike_defaults`, of plain data.

    Args:
        optional: key -> the defaults below it, where it is not there by default.
    """
    if not isinstance(value, Mapping) or path and (not value or default == {}):
        if value != default:
            yield path, value
        return
    if not isinstance(default, Mapping):
        yield path, {}
        default = optional.get(path, {})
    for key, item in value.items():
        name = f"{path}.{key}" if path else str(key)
        yield from _unlike(item, default.get(key), optional, name)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
