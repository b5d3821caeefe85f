"""Precomputed features of the sample videos: MADE-UP stand-ins for what a pretrained network would say of them.

In the layout of antoine77340/video_feature_extractor: `<id>_2d.npz` and `<id>_3d.npz`, key `features`. Here a fixed
random convolutional network looks at the frames; it has learnt nothing, but what is on the stage can be read off it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.sample import picture
from datamodules.sample.world import COMBINATIONS, FPS, KINDS, generator, scene

RATES = {"2d": 1.0, "3d": 1.5}
"""Kind -> rows a second."""
DIM = 128
"""Numbers a row, of either kind."""
KERNELS = (5, 3)  # pixels, of the two layers
CHANNELS = 32  # of the first layer
STRIDE = 2  # of the first layer
POOL = 2  # pixels, between the layers
THRESHOLD = 0.02  # of the first layer, as a share of white: specks of noise stay below it
SHIFT = 1.0  # standard deviations below the mean at which a number of a row is cut off

Floats = NDArray[np.float32]


def write(folder: Path, id_: str, frames: NDArray[np.uint8]) -> None:
    """Writes `<id_>_2d.npz` and `<id_>_3d.npz` into `folder`: float16 [T, DIM] each; the same frames, the same bytes.

    Args:
        folder: exists.
        id_: the video's.
        frames: [T, H, W, 3] RGB, `FPS` a second.
    """
    for kind in RATES:
        np.savez(folder / f"{id_}_{kind}.npz", features=describe(frames, kind))


def describe(frames: NDArray[np.uint8], kind: str) -> NDArray[np.float16]:
    """[T, DIM], one row for each begun `1 / RATES[kind]` seconds; no number is negative, and a row's length is 1."""
    mean_D, deviation_D = _usual(kind)
    rows_TD = np.maximum((_DESCRIBE[kind](frames) - mean_D) / deviation_D + SHIFT, 0)
    lengths_T1 = np.linalg.norm(rows_TD, axis=1, keepdims=True)
    return (rows_TD / np.maximum(lengths_T1, 1e-6)).astype(np.float16)


def _describe_2d(frames: NDArray[np.uint8]) -> Floats:
    """[T, DIM] of the frame in the middle of each second."""
    return _network("2d", DIM // 2)(_at(frames, "2d", 0.5))


def _describe_3d(frames: NDArray[np.uint8]) -> Floats:
    """[T, DIM] of two frames of each 2/3 s, and of how they differ."""
    network = _network("3d", DIM // 4)
    first, second = _at(frames, "3d", 0.25), _at(frames, "3d", 0.75)
    seen = (network(first) + network(second)) / 2
    return np.concatenate([seen, network(np.abs(second - first))], axis=1)


_DESCRIBE: dict[str, Callable[[NDArray[np.uint8]], Floats]] = {"2d": _describe_2d, "3d": _describe_3d}


def _at(frames: NDArray[np.uint8], kind: str, share: float) -> Floats:
    """[T, H / 2, W / 2, 3] the frame at this share of each row's time, half as big, in 0..1."""
    every = FPS / RATES[kind]
    index = (np.arange(math.ceil(len(frames) / every)) + share) * every
    pixels = frames[np.minimum(index.astype(int), len(frames) - 1)]
    count, height, width, colours = pixels.shape
    halved = pixels.reshape(count, height // 2, 2, width // 2, 2, colours).mean(axis=(2, 4), dtype=np.float32)
    return halved / np.float32(255)


@lru_cache
def _network(name: str, width: int) -> Callable[[Floats], Floats]:
    """Two layers of random filters: [T, H, W, 3] -> [T, 2 * width], the largest and the mean response of each filter.

    The filters of the first layer see no even colour, so that the walls are not seen but for their stripes.
    """
    rng = generator("features", name)
    filters = rng.standard_normal((3, *KERNELS[:1] * 2, CHANNELS))
    filters -= filters.mean(axis=(1, 2), keepdims=True)
    first = _unit(filters.reshape(-1, CHANNELS))
    second = _unit(rng.standard_normal((CHANNELS * KERNELS[1] ** 2, width)))

    def respond(pictures: Floats) -> Floats:
        hidden = np.maximum(_patches(pictures, KERNELS[0], STRIDE) @ first - np.float32(THRESHOLD), 0)
        pooled = np.lib.stride_tricks.sliding_window_view(hidden, (POOL, POOL), axis=(1, 2))[:, ::POOL, ::POOL]
        last = np.maximum(_patches(pooled.max(axis=(-1, -2)), KERNELS[1], 1) @ second, 0)
        return np.concatenate([last.max(axis=(1, 2)), last.mean(axis=(1, 2))], axis=1)

    return respond


def _unit(filters: NDArray[np.float64]) -> Floats:
    return (filters / np.linalg.norm(filters, axis=0)).astype(np.float32)


def _patches(pictures: Floats, size: int, stride: int) -> Floats:
    """[T, H, W, C] -> [T, rows, columns, C * size * size]."""
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return windows.reshape(*windows.shape[:3], -1)


@lru_cache
def _usual(kind: str) -> tuple[Floats, Floats]:
    """[DIM] mean and standard deviation of each number over fixed scenes, as batch normalisation would know them."""
    kinds = range(len(KINDS), len(COMBINATIONS), 9)
    scenes = [scene(("features", kind_), (kind_,)) for kind_ in kinds]
    rows = np.concatenate([_DESCRIBE[kind](picture.render(each)) for each in scenes])
    return rows.mean(axis=0), rows.std(axis=0) + np.float32(1e-6)
