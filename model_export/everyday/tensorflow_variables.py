"""Read the variables of a TensorFlow SavedModel without TensorFlow.

Its `variables.index` is a table of LevelDB: blocks of sorted keys, each stored as the difference to the key
before, with a footer that says where the index of blocks is. A value is a BundleEntryProto, which says where
in the data file a tensor lies (tensorflow/core/util/tensor_bundle).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_FOOTER_BYTES = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
_FLOAT = 1
# Fields of BundleEntryProto and, inside its shape, of TensorShapeProto.
_DTYPE, _SHAPE, _OFFSET, _SIZE = 1, 2, 4, 5
_DIM, _DIM_SIZE = 2, 1


def read_variables(index: bytes, data: bytes) -> dict[str, NDArray[np.float32]]:
    """All float32 tensors by key.

    Args:
        index: Content of variables.index.
        data: Content of variables.data-00000-of-00001.

    Raises:
        ValueError: The index is no LevelDB table, or is compressed.
    """
    if index[-len(_MAGIC) :] != _MAGIC:
        raise ValueError("variables.index does not end as a LevelDB table does")
    footer, position = index[-_FOOTER_BYTES:], 0
    for _ in range(2):  # the meta index, which bundles do not use
        _, position = _varint(footer, position)
    tensors = {}
    for _, handle in _entries(index, footer[position:]):
        for key, value in _entries(index, handle):
            entry = dict(_fields(value))
            if key and entry.get(_DTYPE) == _FLOAT:
                tensors[key.decode()] = _tensor(entry, data)
    return tensors


def _tensor(entry: dict[int, int | bytes], data: bytes) -> NDArray[np.float32]:
    start, size, shape = entry.get(_OFFSET, 0), entry[_SIZE], entry.get(_SHAPE, b"")
    assert isinstance(start, int) and isinstance(size, int) and isinstance(shape, bytes)  # noqa: S101, PT018
    dims = [dict(_fields(bytes(dim))).get(_DIM_SIZE, 0) for field, dim in _fields(shape) if field == _DIM]
    return np.frombuffer(data[start : start + size], "<f4").reshape([int(dim) for dim in dims])


def _entries(table: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the block at a handle (offset, size)."""
    offset, position = _varint(handle, 0)
    size, _ = _varint(handle, position)
    if table[offset + size]:
        raise ValueError("variables.index is compressed, which TensorFlow's are not")
    block = table[offset : offset + size]
    (n_restarts,) = struct.unpack("<I", block[-4:])
    position, end, key = 0, size - 4 - 4 * n_restarts, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol buffer message's fields."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        wire = tag & 7
        if wire == 0:
            number, position = _varint(message, position)
            yield tag >> 3, number
            continue
        if wire == 2:
            length, position = _varint(message, position)
        else:
            length = {1: 8, 5: 4}[wire]
        yield tag >> 3, message[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    number = shift = 0
    while True:
        byte = data[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position
