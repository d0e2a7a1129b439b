"""Hashes against values that git and sha256sum print."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_export.hub.hashes import fits, is_hash, sha256_of

# printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
SHA256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
GIT = "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A file with six bytes."""
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    return path


def test_a_file_fits_its_own_hash_of_either_kind(hello: Path) -> None:
    """And no other."""
    assert sha256_of(hello) == SHA256
    assert fits(hello, SHA256)
    assert fits(hello, GIT)
    assert not fits(hello, SHA256[::-1])
    assert not fits(hello, GIT[::-1])


@pytest.mark.parametrize(("etag", "expected"), [(SHA256, True), (GIT, True), ("", False), ("W-1", False)])
def test_only_a_hash_says_what_a_file_must_contain(etag: str, *, expected: bool) -> None:
    """Other servers' ETags say nothing."""
    assert is_hash(etag) is expected
