"""Read pickles as data: numpy arrays and plain containers, and nothing that could run.

A pickle names functions to call. The unpickler here looks none up: the few names that arrays need are
answered from a table, every other name ends the reading with an error.
"""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from model_export.errors import DatasetError, Problem


class _ArrayName:
    """Stands for the class ndarray in a pickle; not callable, so that no pickle can allocate through it."""


def _empty_array(_kind: object, _shape: object, _code: object) -> NDArray[Any]:
    """What numpy's `_reconstruct` does: an empty array, which the pickle's state then fills."""
    return np.ndarray((0,), dtype=np.int8)


def _array_from_buffer(raw: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """What numpy's `_frombuffer` does (protocol 5)."""
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if order == "F" else "C")


def _dtype(code: str, _align: object = False, _copy: object = False) -> np.dtype[Any]:
    """What `numpy.dtype` does with the code of a plain type."""
    if not isinstance(code, str):
        raise pickle.UnpicklingError("the code of a number type is not text")
    return np.dtype(code)


def _scalar(dtype: np.dtype[Any], raw: bytes) -> Any:
    """What numpy's `scalar` does, for plain numbers only."""
    return np.frombuffer(raw, dtype=dtype)[0]


def _encode(text: str, codec: str) -> bytes:
    """How protocol 2 writes bytes."""
    if codec != "latin1":
        raise pickle.UnpicklingError(f"it names the codec {codec!r}")
    return text.encode("latin1")


_ALLOWED: Final[dict[tuple[str, str], Any]] = {
    ("numpy", "ndarray"): _ArrayName,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _array_from_buffer,
    ("_codecs", "encode"): _encode,
}

# Everything that the unpickler itself raises on bytes that are not a whole, well-formed pickle.
_DAMAGED: Final = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks to load {module}.{name}, which no feature needs") from None


def read_pickle(path: Path, shown: str) -> Any:
    """Read a pickle of arrays, numbers, text, lists, tuples, dicts and sets.

    Args:
        path: Of the pickle.
        shown: Name of the file in errors.

    Raises:
        DatasetError: The file is missing, is damaged, or holds anything else; nothing of it was run.
    """
    return _load(_read_bytes(path, shown), shown)


def read_npy_dict(path: Path, shown: str) -> dict[str, Any]:
    """Read a `.npy` file that holds one pickled dict, as numpy writes it.

    Raises:
        DatasetError: The file is missing, is damaged, or holds anything else; nothing of it was run.
    """
    stream = BytesIO(_read_bytes(path, shown))
    try:
        major, _ = npy_format.read_magic(stream)
        read_header = npy_format.read_array_header_1_0 if major == 1 else npy_format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
    except (ValueError, EOFError) as error:
        raise DatasetError(shown, [Problem(shown, f"not a .npy file: {error}")]) from None
    if shape != () or not dtype.hasobject:
        raise DatasetError(shown, [Problem(shown, "holds an array, not a dict of text to vector")])
    held = _load(stream.read(), shown)
    value = held.item() if isinstance(held, np.ndarray) and held.shape == () else held
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise DatasetError(shown, [Problem(shown, "does not hold a dict of text to vector")])
    return value


def _read_bytes(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(shown, [Problem(shown, f"cannot be read: {error.strerror}")]) from None


def _load(raw: bytes, shown: str) -> Any:
    try:
        return _PlainUnpickler(BytesIO(raw)).load()
    except _DAMAGED as error:
        raise DatasetError(shown, [Problem(shown, f"not a pickle of plain arrays: {error}")]) from None
