"""Official text files, whatever wrote them: UTF-8, with or without a mark, or UTF-16 and UTF-32 with theirs."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from datamodules.errors import DataError

MARKS = (
    # UTF-32's little-endian mark begins with UTF-16's.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
HEAD_BYTES = 4096


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file, to be read as a stream; line ends are left as they are.

    Raises:
        DataError: its encoding is not recognised; also from what reads it inside the `with`.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    encoding = _encoding(path, head)
    with path.open(encoding=encoding, newline="") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise DataError(_no_text(path, encoding, error)) from error


class Utf8Reader:
    """A text file as bytes of UTF-8, for what reads these."""

    def __init__(self, file: TextIO):
        self._file = file

    def read(self, characters: int = -1) -> bytes:
        return self._file.read(characters).encode()

    def tell(self) -> int:
        """How many of the file's own bytes have been read."""
        return self._file.buffer.tell()


def read_text(path: Path) -> str:
    """The whole file, its mark left out and its line ends as they are.

    Raises:
        DataError: its encoding is not recognised.
    """
    with open_text(path) as file:
        return file.read()


def decode(content: bytes, name: str) -> str:
    """The text of a file's bytes, for files that lie in an archive.

    Raises:
        DataError: its encoding is not recognised.
    """
    encoding = _encoding(name, content[:HEAD_BYTES])
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(_no_text(name, encoding, error)) from error


def _encoding(name: Path | str, head: bytes) -> str:
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        raise DataError(
            f"{name}: there are zero bytes in it, as in UTF-16 without a mark at its start, or it is no text; "
            "write it as UTF-8: iconv -f UTF-16LE -t UTF-8 FILE"
        )
    return "utf-8"


def _no_text(name: Path | str, encoding: str, error: UnicodeDecodeError) -> str:
    bad = error.object[error.start : error.start + 1].hex()
    if encoding == "utf-8":
        return (
            f"{name}: it is not UTF-8 (the byte 0x{bad}), and no mark at its start says what else it is; if it is "
            "Latin-1, as an old spreadsheet writes, write it as UTF-8: iconv -f LATIN1 -t UTF-8 FILE"
        )
    return f"{name}: its mark says {encoding.removesuffix('-sig').upper()}, which it is not ({error.reason}: 0x{bad})"
