"""All settings' defaults, and `tests/golden/defaults.json`, which holds them to what they are.

`python -m tests.bench.defaults` adds what is new to the file. It leaves alone what is there: a default that moved is a
fault that this cannot cure, and a field that is gone may not come back with another default.
"""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from bench import registry
from bench.config.defaults import stage_classes
from bench.config.schema import StageConfig, TrainerConfig

GOLDEN = Path(__file__).parent.parent / "golden" / "defaults.json"
WHERE_THERE = "where it is there"
"""Key of the defaults of a part that by default is not there."""


def present() -> dict[str, Any]:
    """Of the stages, the trainer, and the models and options of all methods that are the suite's own."""
    ours = [method for method, place in registry.methods().items() if place.startswith("experiments.")]
    return {
        "stage": of_kind(StageConfig),
        "trainer": of_kind(TrainerConfig),
        "methods": {method: _of_method(method) for method in ours},
    }


def _of_method(method: str) -> dict[str, Any]:
    classes = stage_classes(method)
    return {
        "model": of_kind(next(iter(classes.values())).model_config),
        "options": {name: of_kind(kind.options_config) for name, kind in classes.items()},
    }


def of_kind(kind: type) -> dict[str, Any]:
    return _plain(OmegaConf.structured(kind))


def _plain(config: DictConfig) -> Any:
    if config._is_none():
        kind = config._metadata.ref_type
        return {WHERE_THERE: of_kind(kind)} if is_dataclass(kind) else None
    if config._is_missing():
        return "???"
    if not is_dataclass(OmegaConf.get_type(config)):  # a mapping is one value
        return [[key, value] for key, value in sorted(OmegaConf.to_container(config).items())]
    found = {}
    for name in config:
        node = config._get_node(name)
        simple = not isinstance(node, DictConfig)
        found[str(name)] = OmegaConf.to_container(config)[name] if simple else _plain(node)
    return found


def extended(then: Any, now: Any) -> Any:
    """What was there, and what is new."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return then
    return then | {key: extended(then[key], value) if key in then else value for key, value in now.items()}


if __name__ == "__main__":
    before = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
    GOLDEN.write_text(json.dumps(extended(before, present()), indent=1, sort_keys=True) + "\n", encoding="utf-8")
