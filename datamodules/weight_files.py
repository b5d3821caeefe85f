"""Other people's files of weights, read without running any code that they name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

WRAPPERS = ("model", "state_dict", "net")
"""Where training codes put the weights: MAE and its kin; Lightning, Everything at Once; AVLnet and MCN with apex."""

_SCALAR = np.float64(0).__reduce__()[0]
_PATHS = {
    "Posix": PurePosixPath,
    "PurePosix": PurePosixPath,
    "Windows": PureWindowsPath,
    "PureWindows": PureWindowsPath,
}


class _Callback:
    """By whose class Lightning's files before version 1.5 name a callback; nothing is made of it."""


HARMLESS: tuple[Any, ...] = (
    (_Callback, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
    argparse.Namespace,  # a command's arguments, in MAE's `util/misc.py` and all that grew from it
    *((kind, f"{module}.{name}Path") for name, kind in _PATHS.items() for module in ("pathlib", "pathlib._local")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # e.g. the best score so far
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "u1", "?")),
)
"""What a file may hold beside tensors and plain containers: to make one of these runs no code of the file's choice. A
path becomes one that opens nothing; the second names are those of Python 3.13 and NumPy 2."""


def read_checkpoint(path: str) -> dict[str, Tensor]:
    """The weights in somebody's file, whether they lie under one of `WRAPPERS` or are all that it holds.

    Raises:
        ValueError: for a file that holds something else, or a class that is not in `HARMLESS`; says what to do.
    """
    loaded = _unpacked(path)
    if isinstance(loaded, Mapping):
        loaded = next((loaded[name] for name in WRAPPERS if isinstance(loaded.get(name), Mapping)), loaded)
    if not isinstance(loaded, Mapping):
        raise ValueError(f"it holds no state dict (names and tensors), but a {type(loaded).__name__}")
    if others := [str(name) for name, value in loaded.items() if not isinstance(value, Tensor)]:
        raise ValueError(
            f"it holds no state dict (names and tensors): {', '.join(others[:8])} are no tensors. Weights are looked "
            f"for under {', '.join(WRAPPERS)} and, without these, at the top"
        )
    return dict(loaded)


def _unpacked(path: str) -> Any:
    try:
        with torch.serialization.safe_globals(list(HARMLESS)):
            return torch.load(path, weights_only=True, map_location="cpu")
    except OSError:
        raise
    except Exception as error:  # what is no such file fails in any way
        raise ValueError(_reason(str(error) or type(error).__name__, path)) from error


def _reason(message: str, path: str) -> str:
    """What torch says of a file that it does not read, in one plain sentence."""
    if blocked := re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", message):
        return (
            f"it holds {blocked[1]}, whose code could do anything when it is unpacked, so it is not read. Where you "
            "trust it, write its weights alone into a file of their own and give that one; with the authors' code on "
            f"PYTHONPATH: python -c \"import torch; torch.save(torch.load({path!r}, map_location='cpu', "
            "weights_only=False)['model'], 'weights.pt')\" (or what else it calls them than model)"
        )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message).partition("Check the documentation")[0]
    said = plain.rpartition("WeightsUnpickler error:")[2]
    return f"it is no file of weights that torch can read: {' '.join(said.split())}"
