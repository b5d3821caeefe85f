"""Writes what `datamodules/tensor_bundles.py` reads: TensorFlow's checkpoints of float32 and int64, no checksums."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datamodules.tensor_bundles import FOOTER, MAGIC

TYPES = {"float32": 1, "int64": 9}
PER_BLOCK = 20


def write(path: Path, variables: Mapping[str, np.ndarray]) -> None:
    """Writes the `.index` file and the one of the numbers beside it."""
    data, entries = b"", [(b"", _number(1, 1))]
    for name, values in sorted(variables.items()):
        shape = b"".join(_bytes(2, _number(1, length)) for length in values.shape)
        where = _number(4, len(data)) + _number(5, values.nbytes)
        entries.append((name.encode(), _number(1, TYPES[str(values.dtype)]) + _bytes(2, shape) + where))
        data += values.tobytes()
    table, places = b"", []
    for first in range(0, len(entries), PER_BLOCK):
        block = entries[first : first + PER_BLOCK]
        table, place = _with_block(table, block)
        places.append((block[-1][0], place))
    table, about = _with_block(table, [])
    table, index = _with_block(table, places)
    path.write_bytes(table + (about + index).ljust(FOOTER - 8, b"\0") + MAGIC.to_bytes(8, "little"))
    path.with_name(f"{path.stem}.data-00000-of-00001").write_bytes(data)


def _with_block(table: bytes, entries: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    """The table with one more block, and where that lies. Keys share what they begin with, as TensorFlow has it."""
    block, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        block += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    block += (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    return table + block + b"\0" + bytes(4), _varint(len(table)) + _varint(len(block))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])
