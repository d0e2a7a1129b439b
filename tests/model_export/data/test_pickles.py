"""Pickles are data: arrays and plain containers come through, and nothing runs."""

import collections
import contextlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_export.data.pickles import read_npy_dict, read_pickle
from model_export.errors import DatasetError


class Runs:
    """A hostile value: loading it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        """What a real attack does, with open() in place of os.system()."""
        return open, (str(self.target), "w")


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_and_containers_come_through(tmp_path: Path, protocol: int) -> None:
    """As the published files hold them, in every protocol that writes bytes."""
    value: dict[str, Any] = {
        "features": [np.arange(3, dtype=np.float32), np.ones(3, np.float64)],
        "video_names": [b"one", b"t\xc3\xbco"],
        "fps": (25, 29.97, None, np.float64(30.0)),
    }
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    found = read_pickle(tmp_path / "a.pkl", "a.pkl")
    assert found["video_names"] == value["video_names"]
    assert found["fps"] == value["fps"]
    for a, b in zip(found["features"], value["features"], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [list, lambda x: {"features": list(x)}, lambda x: np.array([*x, None])])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int, wrap: Any) -> None:
    """Neither at the top nor inside a container or an object array; the error names what it asked for."""
    target = tmp_path / "ran"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(wrap([Runs(target)]), protocol))
    with pytest.raises(DatasetError, match=r"a\.pkl: .* asks to load .*open"):
        read_pickle(tmp_path / "a.pkl", "a.pkl")
    assert not target.exists()


@pytest.mark.parametrize(
    "value", [collections.OrderedDict(a=1), Path("x"), np.random.default_rng(0), eval, DatasetError]
)
def test_anything_but_plain_data_is_refused(tmp_path: Path, value: object) -> None:
    """Harmless or not: only what features need is admitted."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DatasetError, match="no feature needs"):
        read_pickle(tmp_path / "a.pkl", "a.pkl")


def test_a_huge_array_is_not_allocated_on_a_pickles_word(tmp_path: Path) -> None:
    """A few bytes that call ndarray with a shape of 80 TB."""
    raw = b"cnumpy\nndarray\n((L10000000000000L\ntS'f8'\ntR."
    (tmp_path / "a.pkl").write_bytes(raw)
    with pytest.raises(DatasetError, match="not a pickle of plain arrays"):
        read_pickle(tmp_path / "a.pkl", "a.pkl")


@given(st.data())
def test_damaged_bytes_are_one_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut anywhere, or with any byte changed: a value or a DatasetError, never anything else."""
    raw = bytearray(pickle.dumps({"features": [np.arange(4.0)], "video_names": [b"a"]}))
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(raw)
    with contextlib.suppress(DatasetError):
        read_pickle(path, "damaged.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """As the caller calls it."""
    with pytest.raises(DatasetError, match=r"video/a\.pkl: cannot be read: No such file"):
        read_pickle(tmp_path / "a.pkl", "video/a.pkl")


def test_npy_dict_comes_through(tmp_path: Path) -> None:
    """As numpy writes a dict."""
    value: Any = {"a photo": np.arange(3.0)}
    np.save(tmp_path / "text.npy", value)
    found = read_npy_dict(tmp_path / "text.npy", "text.npy")
    np.testing.assert_array_equal(found["a photo"], np.arange(3.0))


def test_hostile_npy_runs_nothing(tmp_path: Path) -> None:
    """The pickle inside goes through the same unpickler."""
    target = tmp_path / "ran"
    value: Any = {"a": Runs(target)}
    np.save(tmp_path / "text.npy", value)
    with pytest.raises(DatasetError, match="asks to load"):
        read_npy_dict(tmp_path / "text.npy", "text.npy")
    assert not target.exists()


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.ones(3), "not a dict"), ([1, 2], "not a dict"), ({1: 2}, "not hold a dict of text")],
)
def test_npy_of_something_else_is_refused(tmp_path: Path, value: Any, said: str) -> None:
    """An array, a list, or a dict whose keys are not text."""
    np.save(tmp_path / "text.npy", value)
    with pytest.raises(DatasetError, match=said):
        read_npy_dict(tmp_path / "text.npy", "text.npy")


def test_npy_that_is_none_is_refused(tmp_path: Path) -> None:
    """Wrong magic bytes, and no bytes."""
    for raw in (b"", b"PK\x03\x04 not numpy at all"):
        (tmp_path / "text.npy").write_bytes(raw)
        with pytest.raises(DatasetError, match=r"not a \.npy file"):
            read_npy_dict(tmp_path / "text.npy", "text.npy")
