"""`ahse keys`: a key is printed once, and never again."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from service.access.key_ring import KeyRing
from service.access.sqlite import SqliteKeyStore
from tests.conftest import Ahse


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that is not there yet."""
    return tmp_path / "data"


def _create(ahse: Ahse, data: Path, *words: object) -> str:
    code, out, _ = ahse("keys", "create", "--name", "camera", "--data-dir", data, *words)
    assert code == 0
    (text,) = out.split()
    return text


def test_a_key_is_printed_alone_and_works(ahse: Ahse, data: Path) -> None:
    """So that `KEY=$(ahse keys create ...)` takes it; by default it may classify."""
    text = _create(ahse, data)
    with closing(SqliteKeyStore(data / "keys.sqlite3")) as store:
        key = KeyRing(store).identify(text)
    assert key is not None
    assert (key.name, key.scopes, key.expires) == ("camera", frozenset({"classify"}), None)


def test_all_options_are_kept(ahse: Ahse, data: Path) -> None:
    """And listed, as JSON too."""
    text = _create(
        ahse,
        data,
        *("--scope", "labels", "--scope", "classify", "--expires", "90d", "--rate", "60/minute"),
        *("--label-sets", 3, "--labels", 100, "--bytes-per-day", 10**9, "--jobs", 5),
    )
    code, out, _ = ahse("keys", "list", "--json", "--data-dir", data)
    assert code == 0
    facts = json.loads(out)
    assert facts["id"] == text.split("_")[1]
    assert facts["scopes"] == ["classify", "labels"]
    assert (facts["rate"], facts["label_sets"], facts["labels"]) == ("60/minute", 3, 100)
    assert (facts["bytes_per_day"], facts["jobs"]) == (10**9, 5)
    assert facts["expires"][:10] > facts["created"][:10]


def test_a_list_has_ids_and_no_secrets(ahse: Ahse, data: Path) -> None:
    """One line a key."""
    texts = [_create(ahse, data), _create(ahse, data, "--scope", "admin", "--rate", "5/hour")]
    _, out, error = ahse("keys", "list", "--data-dir", data)
    lines = out.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(text.split("_")[1] for text in texts)
    assert "rate 5/hour" in out
    for text in texts:
        assert text.split("_", 2)[2] not in out + error


def test_a_revoked_key_is_gone(ahse: Ahse, data: Path) -> None:
    """An id that is none is an error, with exit code 2."""
    text = _create(ahse, data)
    key_id = text.split("_")[1]
    assert ahse("keys", "revoke", key_id, "--data-dir", data)[0] == 0
    assert ahse("keys", "list", "--data-dir", data)[1] == ""
    code, _, error = ahse("keys", "revoke", key_id, "--data-dir", data)
    assert code == 2
    assert "[unknown_key]" in error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--scope", "root"], "the scopes are: classify, labels, admin"),
        (["--expires", "soon"], "such as 90d"),
        (["--rate", "fast"], "such as 600/minute"),
    ],
)
def test_what_is_not_acceptable_is_said(ahse: Ahse, data: Path, words: list[str], says: str) -> None:
    """In one line; no key is made."""
    code, out, error = ahse("keys", "create", "--name", "k", "--data-dir", data, *words)
    assert (code, out) == (2, "")
    assert says in error
    assert ahse("keys", "list", "--data-dir", data)[1] == ""
