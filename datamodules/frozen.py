"""Settings that can no longer be changed once they are complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any


class Freezable:
    """For a dataclass of settings: after `freeze` none of its fields can be set. `replace` and `deepcopy` make copies
    that can be changed.

    A dataclass that is frozen from the beginning would not do: configurations are made by merging layer on layer.
    """

    __slots__ = ("__dict__", "_frozen")  # a slot, so that it is none of the settings in `vars`

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(self, "_frozen"):
            raise FrozenInstanceError(f"{type(self).__name__}.{name} is composed and cannot be set; change a copy")
        object.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)


def freeze(settings: Any) -> None:
    """Freezes all dataclasses in `settings` that can be: the suite's own, not those of a method."""
    if isinstance(settings, Mapping):
        for value in settings.values():
            freeze(value)
    elif is_dataclass(settings) and not isinstance(settings, type):
        for field in fields(settings):
            freeze(getattr(settings, field.name))
        if isinstance(settings, Freezable):
            object.__setattr__(settings, "_frozen", True)
