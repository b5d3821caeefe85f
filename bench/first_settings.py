"""The settings of records that do not name those that are unlike their defaults: all records up to November 2026.

They hold the whole configuration, whose defaults of that time are in `first_defaults.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.configured import MACHINE, Settings, chosen_precision, counted, is_below, of_row, without

DEFAULTS = Path(__file__).parent / "first_defaults.json"


def first_settings(method: str, config: Mapping[str, Any]) -> Settings:
    """What `configured.of_row` gives, from a record's whole configuration, be it ever so odd."""
    usual = _defaults()
    of_method = usual["methods"].get(method, {})
    raw = {name: own for name, own in _mapping(config.get("stages")).items() if isinstance(own, Mapping)}
    stages = {name: _stage(own, usual, of_method) for name, own in raw.items()}
    model = dict(_unlike(_mapping(config.get("model")), of_method.get("model", {}), {}, ""))
    parts = {_part(own, of_method) for own in raw.values()}
    model = {key: value for key, value in model.items() if any(is_below(key, part) for part in parts)}
    trainer = _mapping(config.get("trainer"))
    settings = dict(_unlike(trainer, usual["trainer"], {}, ""))
    trains = any(own.get("train") for own in raw.values())
    cut = {name: settings[name] for name in ("device_batch",) if name in settings}
    settings = without(settings, (*MACHINE, "accumulate", "precision", *(() if trains else ("grad_clip",)))) | cut
    others = {key: value for key, value in config.items() if key not in ("model", "stages", "trainer")}
    return of_row(stages, model, settings | chosen_precision(str(trainer.get("precision", "auto"))), 1) | others


@cache
def _defaults() -> dict[str, Any]:
    return json.loads(DEFAULTS.read_text(encoding="utf-8"))


def _stage(own: Mapping[str, Any], usual: Mapping[str, Any], of_method: Mapping[str, Any]) -> Settings:
    options = of_method.get("options", {}).get(str(own.get("module")), {}) if own.get("options") else own.get("options")
    settings = dict(_unlike(own, {**usual["stage"], "options": options}, usual["optional"], ""))
    fold = settings.get("fold")
    return counted({key: value for key, value in settings.items() if key != "fold"}, bool(own.get("train"))) | (
        {"fold": fold} if isinstance(fold, int) else {}
    )


def _part(own: Mapping[str, Any], of_method: Mapping[str, Any]) -> str:
    """The part of the model that a stage is built from; all of it where that is not known."""
    part = of_method.get("part", {}).get(str(own.get("module")), "")
    return str(_mapping(own.get("options")).get("network", "")) if part == "options.network" else part


def _unlike(value: Any, default: Any, optional: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """As `configured.unlike_defaults`, of plain data.

    Args:
        optional: key -> the defaults below it, where it is not there by default.
    """
    if not isinstance(value, Mapping) or not value or default == {} and path:
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
