"""Other people's weights under our names, by a table: patterns of their keys and what these are here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from experiments.common.weights import require_fit

Names = str | tuple[str, ...] | None
"""Our name of a weight, or the names of all that start from it; None = left out, as nothing here is like it."""
Entry = tuple[str, Names | Callable[[re.Match[str]], Names]]
"""A pattern of a whole key, and our name, in which `\\1` is the pattern's first group."""
Shape = tuple[str, Callable[[Tensor], Tensor]]
"""A pattern of a whole name of ours, and what makes its shape of theirs."""


def bare(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the `module.` in front of keys that were saved out of DataParallel."""
    return {key.removeprefix("module."): value for key, value in weights.items()}


@dataclass(frozen=True)
class Table:
    """How one code's weights become ours. Of entries that match the same key the first holds."""

    names: tuple[Entry, ...] = ()
    shapes: tuple[Shape, ...] = ()
    """Where none matches, the shape is ours already."""
    exact: Mapping[str, str] = field(default_factory=dict)
    """Whole keys that stand before all patterns."""

    def renamed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their weights, out of DataParallel or not, under our names and in our shapes.

        Raises:
            ValueError: naming every key that no entry matches.
        """
        ours, strange = self.translated(weights)
        require_fit(strange)
        return ours

    def translated(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """The same, and the keys that no entry matches, as lines for `require_fit`."""
        ours: dict[str, Tensor] = {}
        strange = []
        for key, value in bare(weights).items():
            names = self._names(key)
            if names is None:
                strange.append(f"{key}: unknown")
            ours |= {name: self._shaped(name, value) for name in names or ()}
        return ours, strange

    def _names(self, key: str) -> tuple[str, ...] | None:
        """() = left out, None = unknown."""
        if key in self.exact:
            return (self.exact[key],)
        for pattern, target in self._patterns:
            if match := pattern.fullmatch(key):
                names = target(match) if callable(target) else target
                each = (names,) if isinstance(names, str) else names or ()
                return tuple(match.expand(name) for name in each)
        return None

    def _shaped(self, name: str, value: Tensor) -> Tensor:
        change = next((change for pattern, change in self._shapes if pattern.fullmatch(name)), None)
        return value if change is None else change(value)

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], Names | Callable[[re.Match[str]], Names]]]:
        return [(re.compile(pattern), target) for pattern, target in self.names]

    @cached_property
    def _shapes(self) -> list[tuple[re.Pattern[str], Callable[[Tensor], Tensor]]]:
        return [(re.compile(pattern), change) for pattern, change in self.shapes]
