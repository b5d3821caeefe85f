"""TensorFlow's checkpoints, read without it: `<name>.index`, a sorted table of what lies where (LevelDB's format), and
the numbers themselves in `<name>.data-00000-of-00001`, … (tensorflow `core/util/tensor_bundle/tensor_bundle.cc`,
`core/lib/io/format.cc`, `core/protobuf/tensor_bundle.proto`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAGIC = 0xDB4775248B80FB57
"""Of the last 8 bytes of a table."""
FOOTER = 48
TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "<u1", 5: "<i2", 6: "<i1", 9: "<i8", 10: "?", 14: "<u2", 19: "<f2"}
"""`DataType` of `types.proto` -> NumPy's; 14, bfloat16, has none."""
BFLOAT16, STRING = 14, 7


def read(path: Path) -> dict[str, Tensor]:
    """Name -> numbers, of all variables but those of text.

    Args:
        path: the `.index` file.

    Raises:
        ValueError: what is wrong with a file.
    """
    content = path.read_bytes()
    if len(content) < FOOTER or int.from_bytes(content[-8:], "little") != MAGIC:
        raise ValueError("it does not end as an index of TensorFlow does")
    try:
        entries = dict(_table(content))
        header = _fields(entries.pop("", b""))
        return dict(_variables(path, entries, header.get(1, [1])[0]))
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"its table is damaged ({error!r})") from error


def _variables(path: Path, entries: dict[str, bytes], shards: int) -> Iterator[tuple[str, Tensor]]:
    stored: dict[int, bytes] = {}
    for name, entry in entries.items():
        fields = _fields(entry)
        kind, shard, offset, size = (fields.get(number, [0])[0] for number in (1, 3, 4, 5))
        if kind == STRING:
            continue
        if kind not in TYPES or 7 in fields:
            raise ValueError(
                f"{name} is of a kind that is not read: DataType {kind}{', in slices' if 7 in fields else ''}"
            )
        if shard not in stored:
            stored[shard] = _data(path, shard, shards)
        shape = [_fields(dim).get(1, [0])[0] for dim in _fields(fields.get(2, [b""])[0]).get(2, [])]
        values, dtype = stored[shard][offset : offset + size], np.dtype(TYPES[kind])
        if len(values) != size or size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name}, {shape}, has {len(values)} bytes; a .data file is cut off or another's")
        found = torch.from_numpy(np.frombuffer(bytearray(values), dtype).reshape(shape))
        yield name, found.view(torch.bfloat16) if kind == BFLOAT16 else found


def _data(path: Path, shard: int, shards: int) -> bytes:
    beside = path.with_name(f"{path.stem}.data-{shard:05d}-of-{shards:05d}")
    if not beside.is_file():
        raise ValueError(f"{beside.name}, in which its numbers lie, is not beside it")
    return beside.read_bytes()


def _table(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Key and value of each entry, block by block."""
    _, at = _handle(content, len(content) - FOOTER)  # of what says more about the table
    for _, place in _block(content, _handle(content, at)[0]):
        for key, value in _block(content, _handle(place, 0)[0]):
            yield key.decode(), value


def _block(content: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """Entries of a block, each key without what it shares with the one before."""
    offset, size = handle
    if content[offset + size]:
        raise ValueError("its table is compressed, which TensorFlow's checkpoints are not")
    block, key, at = content[offset : offset + size], b"", 0
    end = size - 4 * (int.from_bytes(block[-4:], "little") + 1)
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    """((offset, size) of a block, where the next number begins)."""
    offset, at = _varint(content, at)
    size, at = _varint(content, at)
    return (offset, size), at


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = content[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _fields(message: bytes) -> dict[int, list[Any]]:
    """Number of a field of a protocol buffer -> its values, whole numbers or bytes."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(message, at)
        else:
            size = {1: 8, 5: 4}.get(wire)
            if size is None:
                size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        found.setdefault(tag >> 3, []).append(value)
    return found
