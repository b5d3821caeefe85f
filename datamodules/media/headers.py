"""The lengths that files declare, where FFmpeg reports the length of what is there instead."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

OGG_PAGE_BYTES = 27 + 255 + 255 * 255
"""The longest page (RFC 3533, section 6)."""

MATROSKA = {
    "Segment": 0x18538067,
    "Info": 0x1549A966,
    "TimestampScale": 0x2AD7B1,
    "Cluster": 0x1F43B675,
    "Timestamp": 0xE7,
}
"""The elements that are looked for, and those that they are in (RFC 9559, section 5)."""
RIFF_SLACK_BYTES = 4096
"""An AVI of more than 1 GB goes on in another RIFF after its first index; small chunks may follow the last one."""


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
    said: dict[str, float] = {}
    with path.open("rb") as file:
        for name, _ in _riff_chunks(file):
            if name == b"LIST" and _read(file, 4) == b"movi":
                break
            if name == b"strh":  # AVISTREAMHEADER: fccType, ..., dwScale, dwRate, dwStart, dwLength
                stream, scale, rate, length = struct.unpack("<4s16xII4xI", _read(file, 36))
                if (kind := {b"auds": "audio", b"vids": "video"}.get(stream)) and rate:
                    said.setdefault(kind, length * scale / rate)
    return said


def avi_has_index(path: Path) -> bool:
    """Whether an AVI ends with its index (`idx1`, after the streams): then it is whole, whatever lengths it says.

    Streams that begin late do so by empty chunks, which count for the length said and hold nothing.
    """
    size, place = path.stat().st_size, 12
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            name, length = struct.unpack("<4sI", _read(file, 8))
            end = place + 8 + length + length % 2
            if name == b"idx1":
                return length > 0 and any(_read(file, 16)) and end <= size < end + RIFF_SLACK_BYTES
            place = end
    return False


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


def jpeg_is_ended(content: bytes) -> bool | None:
    """Whether a JPEG has its end (ITU-T T.81, table B.1) after its last pixels; None if it is none."""
    start, pixels, end = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
    return end in content[content.rfind(pixels) :] if content.startswith(start) else None


def gif_is_ended(content: bytes) -> bool | None:
    """Whether a GIF has its trailer after the end of its last block (GIF89a, section 27); None if it is none."""
    return content.endswith(b"\x00\x3b") if content[:6] in (b"GIF87a", b"GIF89a") else None


def matroska_begin(path: Path) -> float | None:
    """The stamp of a Matroska file's first cluster, in seconds; None if no cluster follows the header (RFC 9559).

    FFmpeg reports the first stamp that it finds, which is a later one where damage hides the first cluster.
    """
    scale = 1_000_000  # nanoseconds, unless the file says otherwise
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            name, length = _ebml_number(file, keep_marker=True), _ebml_number(file)
            if name == MATROSKA["TimestampScale"]:
                scale = int.from_bytes(_read(file, min(length, 8)))
            elif name == MATROSKA["Timestamp"]:
                return int.from_bytes(_read(file, min(length, 8))) * scale / 1e9
            elif name not in (MATROSKA["Segment"], MATROSKA["Info"], MATROSKA["Cluster"]):
                if not name:
                    return None
                file.seek(length, os.SEEK_CUR)
    return None


def _ebml_number(file: BinaryIO, keep_marker: bool = False) -> int:
    """A number of 1 to 8 bytes, whose first one bit gives their count (RFC 8794, section 4); 0 if it is none."""
    first = _read(file, 1)[0]
    count = 9 - first.bit_length()
    if count > 8:
        return 0
    number = int.from_bytes(bytes([first]) + _read(file, count - 1))
    return number if keep_marker else number & ~(1 << 7 * count)


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
