"""What files say of their length where FFmpeg reports, in its place, what there is."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The longest page (RFC 3533, section 6)."""


def wav_seconds(path: Path) -> float | None:
    """How long a WAV file says its sound is, in seconds; None if it does not say."""
    byte_rate = 0
    with path.open("rb") as file:
        for name, size in _riff_chunks(file):
            if name == b"fmt ":
                byte_rate = struct.unpack("<8xI", _read(file, 12))[0]
            elif name == b"data":
                unknown = size == 0 or size >= 0x7FFFFFFF  # what writers to a pipe leave there
                return size / byte_rate if byte_rate and not unknown else None
    return None


def avi_seconds(path: Path) -> dict[str, float]:
    """How long an AVI says its first sound and video stream are: "audio" and "video" -> seconds, without the unsaid.

    FFmpeg goes by this too, but not where the index is lost, which comes last.
    """
    said = {}
    with path.open("rb") as file:
        for name, _ in _riff_chunks(file):
            if name == b"LIST" and _read(file, 4) == b"movi":
                break
            if name == b"strh":  # AVISTREAMHEADER: fccType, ..., dwScale, dwRate, dwStart, dwLength
                stream, scale, rate, length = struct.unpack("<4s16xII4xI", _read(file, 36))
                if (kind := {b"auds": "audio", b"vids": "video"}.get(stream)) and rate:
                    said.setdefault(kind, length * scale / rate)
    return said


def ogg_is_ended(path: Path) -> bool:
    """Whether the last page of an Ogg file is all there and marked as its stream's last (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 2 * OGG_PAGE_BYTES, 0))
        tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < 27 or not page[5] & 4:
        return False
    segments = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(segments)


def _riff_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(Name, size) of a RIFF file's chunks in turn, those in lists too; the file stands where their content begins."""
    place = 12
    while True:
        file.seek(place)
        name, size = struct.unpack("<4sI", _read(file, 8))
        if name == bytes(4):  # the end, or a hole, which would be walked through in steps of 8 bytes
            return
        place += 12 if name == b"LIST" else 8 + size + size % 2
        yield name, size


def _read(file: BinaryIO, count: int) -> bytes:
    """The next `count` bytes, zeros where the file has ended."""
    return file.read(count).ljust(count, b"\0")
