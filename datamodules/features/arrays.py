"""Files of arrays: features, flow, vectors with times; opened, with what is wrong with them named.

The processes that judge such files import this alone: it is quick to import.
"""

from __future__ import annotations

import os
import zipfile
import zlib

import numpy as np

from datamodules.errors import FileError

REASONS = {
    "missing": "there is no such file",
    "unreadable": "it is no array in NumPy's format, or damaged",
    "wrong type": "its numbers are neither float16 nor float32",
    "wrong shape": "it is not one vector of the expected length a moment",
    "too short": "it has no row of this clip",
    "not finite": "it has NaN or infinite values",
}
"""Why a file cannot be used -> what that means."""

KEY = "features"
"""Of the array in an `.npz`, as AVLnet reads it; an archive of one array may call it what it likes."""
TIMES = "times"
"""Of the array of times beside vectors in an `.npz`."""


class FeatureError(FileError):
    """A file of features that cannot be used."""

    reasons = REASONS


def open_array(path: str | os.PathLike[str], name: str = KEY) -> np.ndarray:
    """An array of a file, memory-mapped if the file allows it.

    Args:
        path: `.npy`, or `.npz`.
        name: of the array in an archive.

    Raises:
        FeatureError: there is none.
    """
    try:
        # Without pickles a file cannot run code; arrays of Python objects are pickles.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(array, np.lib.npyio.NpzFile):
            with array as archive:
                return archive[_key(path, archive.files, name)]
    except FileNotFoundError as error:
        raise FeatureError(path, "missing") from error
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise FeatureError(path, "unreadable", str(error).splitlines()[0] if str(error) else "") from error
    return array


def _key(path: str | os.PathLike[str], names: list[str], wanted: str) -> str:
    if wanted in names:
        return wanted
    if len(names) == 1 and wanted == KEY:
        return names[0]
    raise FeatureError(path, "unreadable", f"arrays {', '.join(names) or '(none)'}, and none is called {wanted}")


def open_flow(path: str) -> np.ndarray:
    """[T, H, W, 2], memory-mapped if the file allows it."""
    flow_THW2 = open_array(path)
    if flow_THW2.ndim != 4 or flow_THW2.shape[3] != 2:
        raise FeatureError(path, "wrong shape", f"{list(flow_THW2.shape)} instead of [T, H, W, 2]")
    if flow_THW2.dtype != np.uint8 and flow_THW2.dtype.kind != "f":
        raise FeatureError(path, "wrong type", f"{flow_THW2.dtype} instead of floats or uint8")
    return flow_THW2


def open_times(path: str) -> np.ndarray:
    """float64 [N, 2], begin and end of each vector, seconds of the video."""
    times = open_array(path, TIMES)
    if times.dtype.kind not in "fiu":
        raise FeatureError(path, "wrong type", f"times of {times.dtype} instead of numbers")
    times_N2 = np.stack([times, times], 1) if times.ndim == 1 else times
    if times_N2.ndim != 2 or times_N2.shape[1] != 2:
        raise FeatureError(path, "wrong shape", f"times of {list(times.shape)} instead of [N] or [N, 2]")
    if not np.isfinite(times_N2).all():
        raise FeatureError(path, "not finite")
    return times_N2.astype(np.float64)


def open_timed(path: str, count: int, dim: int) -> np.ndarray:
    """[N, D]."""
    vectors_ND = open_array(path)
    if vectors_ND.dtype.kind != "f":
        raise FeatureError(path, "wrong type", f"{vectors_ND.dtype} instead of floats")
    if vectors_ND.shape != (count, dim):
        raise FeatureError(
            path, "wrong shape", f"{list(vectors_ND.shape)} instead of [{count}, {dim}], a vector a time"
        )
    return vectors_ND


def check_timed(path: str, dim: int) -> None:
    """Raises `FeatureError` of a file that is damaged or holds no such vectors."""
    if not np.isfinite(open_timed(path, len(open_times(path)), dim)).all():
        raise FeatureError(path, "not finite")
