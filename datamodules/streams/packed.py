"""What streams ask of a pack.

A pack holds clips' sound at one rate, their frames on one grid, files that the dataset's table names, and its other
columns, see `packing.shards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from datamodules.errors import DataError
from datamodules.types import VideoInputs

REPACK = "change that, or pack the dataset again"


class Format(Protocol):
    """What of the clips a pack holds: a `PackedFormat`."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def fps(self) -> float: ...

    @property
    def size(self) -> int: ...

    @property
    def files(self) -> Sequence[str]: ...


def require_sound(format: Format, url: str, where: str, sample_rate: int) -> None:
    """Raises DataError where sound at this rate cannot be read from the pack.

    Args:
        format: of the pack.
        url: of the pack.
        where: the setting's place, e.g. `data.inputs.audio`.
        sample_rate: Hz.
    """
    if sample_rate != format.sample_rate:
        has = f"sound of {format.sample_rate} Hz" if format.sample_rate else "no sound"
        raise DataError(f"{url} holds {has}, but {where}.sample_rate={sample_rate}; {REPACK}")


def require_files(format: Format, url: str, where: str, column: str) -> None:
    """Raises DataError where the files that a column of the dataset's table names are not in the pack; `where` as for
    sound."""
    if column not in format.files:
        raise DataError(
            f"{url} holds no files of the column {column}, which {where} reads; name {where}.kind and its settings "
            f"when you pack the dataset again"
        )


def require_pictures(format: Format, url: str, where: str, video: VideoInputs) -> None:
    """Raises DataError where such frames cannot be read from the pack; `where` as for sound."""
    if not format.fps:
        raise DataError(f"{url} holds no frames, but the stage looks at pictures; {REPACK}")
    if video.short_side:
        raise DataError(
            f"{url} holds frames that were resized to squares, but {where}.short_side={video.short_side} keeps their "
            f"shape; read the dataset's folder instead (data.root)"
        )
    ratio = format.fps / video.fps
    if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
        raise DataError(
            f"{url} holds {format.fps:g} frames a second, no multiple of {where}.fps={video.fps:g}; {REPACK}"
        )
    if max(video.size, video.train_size) > format.size:
        raise DataError(
            f"{url} holds frames of {format.size} pixels, but {where}.size={video.size} and "
            f"train_size={video.train_size}; {REPACK}"
        )
