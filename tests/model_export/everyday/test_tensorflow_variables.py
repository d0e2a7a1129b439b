"""A TensorFlow index built byte by byte, as LevelDB lays its tables out, and read back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pytest

from model_export.everyday.tensorflow_variables import read_variables

MAGIC = bytes.fromhex("57fb808b247547db")
FLOAT, INT64 = 1, 9
KERNEL, BIAS, COUNT = "layer/kernel", "layer/bias", "layer/count"
DATA = np.arange(10, dtype="<f4").tobytes() + np.array([7], "<i8").tobytes()
Entries = list[tuple[bytes, bytes]]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _entry(kind: int, dims: Sequence[int], offset: int, size: int) -> bytes:
    """A BundleEntryProto; zeros are left out, and a checksum (fixed32) is there, as TensorFlow writes it."""
    shape = b"".join(_message(2, _number(1, dim)) for dim in dims)
    place = _number(4, offset) if offset else b""
    checksum = _varint(6 << 3 | 5) + struct.pack("<I", 0xDEADBEEF)
    return _number(1, kind) + _message(2, shape) + place + _number(5, size) + checksum


def _block(entries: Entries) -> bytes:
    """Keys as the difference to the key before, with one restart point, uncompressed, with a checksum."""
    out, before = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), None)
        shared = min(len(key), len(before)) if shared is None else shared
        out += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)


def _table(*blocks: Entries, compression: int = 0) -> bytes:
    """Blocks of data, an empty meta index, the index of blocks, and the footer."""
    out, handles = b"", []
    last_keys = [entries[-1][0] for entries in blocks]
    contents = [*(_block(entries) for entries in blocks), _block([])]
    for content in contents:
        handles.append(_varint(len(out)) + _varint(len(content)))
        out += content + bytes([compression]) + b"\0\0\0\0"
    index = _block(list(zip(last_keys, handles[:-1], strict=True)))
    place = _varint(len(out)) + _varint(len(index))
    out += index + b"\0" + b"\0\0\0\0"
    return out + (handles[-1] + place).ljust(40, b"\0") + MAGIC


def _usual(count_kind: int = INT64) -> Entries:
    return [
        (b"", b"\x08\x01"),  # the header
        (BIAS.encode(), _entry(FLOAT, [4], 24, 16)),
        (COUNT.encode(), _entry(count_kind, [], 40, 8)),
        (KERNEL.encode(), _entry(FLOAT, [3, 2], 0, 24)),
    ]


def test_tensors_come_with_their_dims() -> None:
    """Keys share a prefix; the first tensor's offset of zero is left out; other types are passed over."""
    found = read_variables(_table(_usual()), DATA)
    assert found.keys() == {KERNEL, BIAS}
    np.testing.assert_array_equal(found[KERNEL], np.arange(6, dtype=np.float32).reshape(3, 2))
    np.testing.assert_array_equal(found[BIAS], [6, 7, 8, 9])
    assert found[KERNEL].dtype == np.float32


def test_several_blocks_and_long_ones() -> None:
    """Offsets and sizes over 127 take several bytes."""
    names = [f"block/{index:03d}/kernel" for index in range(60)]
    data = np.arange(60, dtype="<f4").tobytes()
    entries = [(name.encode(), _entry(FLOAT, [1, 1], 4 * i, 4)) for i, name in enumerate(names)]
    found = read_variables(_table(entries[:25], entries[25:26], entries[26:]), data)
    assert list(found) == names
    assert [float(value[0, 0]) for value in found.values()] == list(range(60))


def test_a_tensor_without_dims_is_a_scalar() -> None:
    """As a step counter of type float."""
    data = np.array([2.5], "<f4").tobytes()
    found = read_variables(_table([(b"x", _entry(FLOAT, [], 0, 4))]), data)
    assert found["x"].shape == ()
    assert float(found["x"]) == 2.5


@pytest.mark.parametrize("index", [b"", b"no table", _table(_usual())[:-1]])
def test_what_is_no_table_is_refused(index: bytes) -> None:
    """By its last bytes."""
    with pytest.raises(ValueError, match="does not end as a LevelDB table does"):
        read_variables(index, DATA)


def test_compressed_blocks_are_refused() -> None:
    """TensorFlow writes none."""
    with pytest.raises(ValueError, match="is compressed"):
        read_variables(_table(_usual(), compression=1), DATA)
