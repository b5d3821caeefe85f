"""Pictures that lie in a file of many, as CIFAR's: each has a place there, which is written like a path."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.media.container import MediaError

_PART = re.compile(r"(.+\.bin)@(\d+)\+(\d+)")


class Part(NamedTuple):
    """Bytes of red, then of green, then of blue, each row by row."""

    file: str
    begin: int
    """Byte of the file."""
    side: int
    """Pixels, height and width."""


def part_of(file: str, begin: int, side: int) -> str:
    """What is written for such a picture where other datasets have a picture's path: `<file>@<begin>+<side>`."""
    return f"{file}@{begin}+{side}"


def as_part(path: str | os.PathLike[str]) -> Part | None:
    """What `part_of` wrote; None where it is a path."""
    found = _PART.fullmatch(os.fspath(path))
    return Part(found[1], int(found[2]), int(found[3])) if found else None


def file_of(path: str) -> str:
    """The file on the disk: the path, or the file of the part."""
    part = as_part(path)
    return part.file if part else path


def suffix_of(path: str) -> str:
    """That of a file with the picture alone, see `content_of`."""
    return ".ppm" if as_part(path) else Path(path).suffix


def content_of(path: str) -> bytes:
    """The file's bytes; of a part those of a file (PPM) that holds the picture alone.

    Raises:
        MediaError: it cannot be read, or ends before the part does.
    """
    part = as_part(path)
    if part is None:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise MediaError(path, "unreadable", str(error)) from error
    return f"P6 {part.side} {part.side} 255\n".encode() + read_part(part).tobytes()


def read_part(part: Part) -> np.ndarray:
    """uint8 [side, side, 3] RGB.

    Raises:
        MediaError: as for `content_of`.
    """
    size = 3 * part.side * part.side
    try:
        with open(part.file, "rb") as file:
            file.seek(part.begin)
            content = file.read(size)
    except FileNotFoundError as error:
        raise MediaError(part.file, "missing") from error
    except OSError as error:
        raise MediaError(part.file, "unreadable", str(error)) from error
    if len(content) < size:
        raise MediaError(part.file, "truncated", f"it ends within the picture at byte {part.begin}")
    return np.frombuffer(content, np.uint8).reshape(3, part.side, part.side).transpose(1, 2, 0).copy()
