"""Pictures that are files of their own, or parts of one (`parts`): as colours, and as the numbers of their pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from datamodules.media.container import Container, MediaError
from datamodules.media.decode import read_frames, resized
from datamodules.media.frame_reader import FrameReader
from datamodules.media.headers import gif_is_ended, jpeg_is_ended
from datamodules.media.parts import as_part, read_part


def read_picture(path: str | os.PathLike[str], size: int) -> np.ndarray:
    """uint8 [size, size, 3] RGB.

    Raises:
        MediaError: it cannot be decoded, or was cut off.
    """
    if part := as_part(path):
        return resized(read_part(part), size)
    require_whole(Path(path))
    return read_frames(path, (0.0,), size)[0]


def check_picture(path: str) -> None:
    """Raises `MediaError` where `read_picture` would."""
    read_picture(path, 8)


def read_numbers(path: str | os.PathLike[str]) -> np.ndarray:
    """int64 [H, W], the numbers of a picture's pixels: places in its palette, or grey values.

    Raises:
        MediaError: it cannot be decoded, was cut off, or is in colours.
    """
    path = Path(path)
    require_whole(path)
    container = Container(path)
    try:
        container.require_decodable("video")
        frame = FrameReader(container).shown_at(0, last=True)
    finally:
        container.close()
    name = frame.format.name
    if name == "pal8":
        numbers = frame.to_ndarray()[0]
    elif name in ("monob", "monow"):
        numbers = frame.to_ndarray(format="gray")
    elif name.startswith("gray"):
        numbers = frame.to_ndarray()
    elif name.startswith("yuv"):
        raise MediaError(path, "undecodable", f"its format {name} loses what numbers pixels have; give a PNG")
    else:
        colours = frame.to_ndarray(format="rgb24")
        numbers = colours[..., 0]
        if (colours != numbers[..., None]).any():
            raise MediaError(path, "undecodable", "its pixels are colours, and numbers are needed: a palette or grey")
    return numbers.astype(np.int64)


def require_whole(path: Path) -> None:
    """Raises `MediaError` where a picture was cut off and FFmpeg would paint the rest; it notices that of other formats
    (PNG, WebP, BMP, TIFF) itself."""
    content = path.read_bytes() if path.is_file() else b""
    if jpeg_is_ended(content) is False or gif_is_ended(content) is False:
        raise MediaError(path, "truncated", "the picture has no end")
