"""The defaults of a method's dataclasses, as plain data."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from bench import registry
from experiments.common.stage import Stage


def of_method(method: str) -> dict[str, Any]:
    """Those of its `model`, of the `options` of each stage class, and which of these compare the clips of a batch.

    Raises:
        ImportError: its package cannot be imported here.
    """
    classes = stage_classes(method)
    return {
        "model": next((plain(kind.model_config) for kind in classes.values()), {}),
        "options": {name: plain(kind.options_config) for name, kind in classes.items()},
        "compares": [name for name, kind in classes.items() if kind.compares_clips],
    }


def stage_classes(method: str) -> dict[str, type[Stage[Any, Any]]]:
    """Name -> class, of those that can be a stage's `module`."""
    module = registry.method_module(method)
    return {
        name: kind
        for name, kind in sorted(vars(module).items())
        if isinstance(kind, type) and issubclass(kind, Stage) and hasattr(kind, "options_config")
    }


def plain(kind: type) -> Any:
    """The defaults of a dataclass; `???` for a field without one."""
    return OmegaConf.to_container(OmegaConf.structured(kind))
