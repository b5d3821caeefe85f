"""Pickles of nested dictionaries of arrays, as Haiku's users write their weights (MMV's are dill's), read without
running any code that they name: what may be made is listed, and all else is an error."""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]
_FROM_BUFFER = np.zeros(1).__reduce_ex__(5)[0]


def _array(reconstruct: Callable[..., np.ndarray], args: Any, state: Any, *_: Any) -> np.ndarray:
    """What stands for an array of JAX, and for one that dill has written: NumPy's."""
    array = reconstruct(*args)
    array.__setstate__(state)
    return array


def _latin(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise ValueError(f"bytes as {encoding}")
    return text.encode("latin1")


MAY_BE_MADE: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _latin,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{f"numpy.{core}.multiarray._reconstruct": _RECONSTRUCT for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _SCALAR for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _FROM_BUFFER for core in ("core", "_core")},
    **{f"haiku._src.data_structures.{name}": dict for name in ("FlatMapping", "FlatMap", "frozendict")},
    "dill._dill._create_array": _array,
    "jax._src.array._reconstruct_array": _array,
    "jax._src.device_array._reconstruct_device_array": _array,
    "jax.interpreters.xla._reconstruct_device_array": _array,
}
"""Names in a file -> what is made instead. Making one of these runs no code of the file's choice, as arrays of objects
hold no others either."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in MAY_BE_MADE:
            raise ValueError(
                f"it holds {module}.{name}, whose code could do anything when it is unpacked, so it is not read"
            )
        return MAY_BE_MADE[f"{module}.{name}"]


def read(path: Path) -> dict[str, Tensor]:
    """The arrays under the names that lead to them, with `/` between: `<module>/w`. What lies under `params` and under
    `state` is put together, without these two words.

    Raises:
        ValueError: for a file that is no such pickle, or holds something else.
    """
    try:
        with path.open("rb") as file:
            loaded = _Unpickler(file).load()
    except (OSError, ValueError):
        raise
    except Exception as error:  # what is no pickle fails in any way
        raise ValueError(f"it is no pickle: {error}") from error
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds no names and arrays, but a {type(loaded).__name__}")
    parts = [loaded[part] for part in ("params", "state") if isinstance(loaded.get(part), Mapping)]
    named = [pair for part in parts or [loaded] for pair in _named(part)]
    if twice := [name for name, count in Counter(name for name, _ in named).items() if count > 1]:
        raise ValueError(f"it has two arrays called {min(twice)}")
    return dict(named)


def _named(values: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _named(value, f"{before}{name}/")
        elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub":
            yield f"{before}{name}", torch.from_numpy(np.array(value))
        else:
            raise ValueError(f"{before}{name} is no array of numbers, but a {type(value).__name__}")
