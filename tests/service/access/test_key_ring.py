"""The keys of a running service: fresh, fail closed, compared in constant time."""

from __future__ import annotations

import errno
import hmac
import threading
from collections.abc import Iterator
from contextlib import closing
from ctypes import c_bool
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.access import key_ring
from service.access.key_ring import ENVIRONMENT_ID, KeyRing
from service.access.keys import ApiKey, make_key
from service.access.sqlite import SqliteKeyStore

SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105  (of this test)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the store."""
    return tmp_path / "keys.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteKeyStore]:
    """A store without keys."""
    with closing(SqliteKeyStore(path)) as opened:
        yield opened


@pytest.fixture
def ring(store: SqliteKeyStore) -> Iterator[KeyRing]:
    """A ring of that store."""
    with closing(KeyRing(store)) as made:
        yield made


@pytest.fixture
def elsewhere(path: Path) -> Iterator[SqliteKeyStore]:
    """The same store, opened by someone else."""
    with closing(SqliteKeyStore(path)) as opened:
        yield opened


def test_keys_that_others_make_and_revoke_are_noticed(ring: KeyRing, elsewhere: SqliteKeyStore) -> None:
    """Once a key was needed it stays needed, also when the last is revoked."""
    key, text = make_key("one", frozenset({"classify"}))
    assert not ring.needs_key
    elsewhere.create(key)
    assert ring.identify(text) is None
    ring.refresh()
    assert ring.needs_key
    assert ring.identify(text) == key
    elsewhere.revoke(key.id)
    ring.refresh()
    assert ring.identify(text) is None
    assert ring.needs_key


def test_a_worker_that_starts_later_needs_a_key_that_another_has_seen(
    store: SqliteKeyStore, elsewhere: SqliteKeyStore
) -> None:
    """Also when the last key was revoked by then."""
    seen_key = c_bool()
    with closing(KeyRing(store, seen_key=seen_key)) as first:
        key, _ = make_key("one", frozenset({"classify"}))
        elsewhere.create(key)
        first.refresh()
        elsewhere.revoke(key.id)
        first.refresh()
        with closing(KeyRing(elsewhere, seen_key=seen_key)) as later:
            assert later.needs_key
    with closing(KeyRing(elsewhere)) as of_another_service:
        assert not of_another_service.needs_key


def test_what_others_do_to_keys_is_recorded(ring: KeyRing, elsewhere: SqliteKeyStore) -> None:
    """Once each, with id and name, without the key or its hash."""
    key, text = make_key("camera", frozenset({"classify"}))
    with capture_logs() as logs:
        elsewhere.create(key)
        ring.refresh()
        ring.refresh()
        elsewhere.revoke(key.id)
        ring.refresh()
    assert [(log["event"], log["action"]) for log in logs] == [("edit", "create_key"), ("edit", "revoke_key")]
    assert {(log["target"], log["target_name"], log["client"]) for log in logs} == {
        (key.id, "camera", "command line")
    }
    assert text.rpartition("_")[2] not in str(logs)
    assert key.digest.hex() not in str(logs)


def test_the_store_is_read_regularly_beside_requests(
    ring: KeyRing, elsewhere: SqliteKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a thread, which ends with the service."""
    monkeypatch.setattr(key_ring, "_REFRESH_S", 0.001)
    key, text = make_key("one", frozenset({"classify"}))
    noticed = threading.Event()
    take = ring._take

    def noticing(keys: list[ApiKey]) -> None:
        take(keys)
        if keys:
            noticed.set()

    monkeypatch.setattr(ring, "_take", noticing)
    ring.start()
    elsewhere.create(key)
    assert noticed.wait(60)
    assert ring.identify(text) == key
    ring.close()
    assert not ring._thread.is_alive()


def test_a_service_notices_within_a_second() -> None:
    """The promise of the documents."""
    assert key_ring._REFRESH_S < 1


def _stale(_: Path) -> bool:
    """As of a network file system whose server was away."""
    raise OSError(errno.ESTALE, "Stale file handle")


def test_known_keys_stay_when_the_store_cannot_be_read(
    ring: KeyRing, elsewhere: SqliteKeyStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged once, not at each try, and again when it is over."""
    key, text = make_key("one", frozenset({"classify"}))
    elsewhere.create(key)
    ring.refresh()
    moved = path.rename(path.with_name("away"))
    with capture_logs() as logs:
        ring.refresh()
        ring.refresh()
        assert ring.identify(text) == key
        moved.rename(path)
        with monkeypatch.context() as away:
            away.setattr(Path, "is_file", _stale)
            ring.refresh()
        ring.refresh()
    assert [log["event"] for log in logs] == ["keys_unreadable", "keys_readable_again"]
    assert text not in str(logs)
    assert ring.identify(text) == key


def test_the_key_of_the_environment_has_every_scope(store: SqliteKeyStore, path: Path) -> None:
    """It needs no store, and is not in it."""
    ring = KeyRing(store, SECRET)
    found = ring.identify(SECRET)
    assert found is not None
    assert found.id == ENVIRONMENT_ID
    assert found.permits("admin")
    assert ring.needs_key
    assert ring.identify(SECRET[:-1]) is None
    assert SECRET.encode() not in path.read_bytes()


@pytest.mark.parametrize("what", ["its own id", "another id", "no key at all", "nothing"])
def test_the_same_comparisons_are_made_whatever_is_sent(
    ring: KeyRing, elsewhere: SqliteKeyStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """In constant time (hmac.compare_digest), of whole digests, also for ids that do not exist."""
    key, text = make_key("one", frozenset({"classify"}))
    elsewhere.create(key)
    ring.refresh()
    sent = {
        "its own id": text[:-1] + "!",
        "another id": "ahse_00000000_x",
        "no key at all": "x",
        "nothing": "",
    }
    compared: list[tuple[int, int]] = []

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    class Counting:
        compare_digest = staticmethod(counting)

    monkeypatch.setattr(key_ring, "hmac", Counting)
    assert ring.identify(sent[what]) is None
    assert compared == [(32, 32), (32, 32)]


def test_an_id_alone_opens_nothing(ring: KeyRing, elsewhere: SqliteKeyStore) -> None:
    """Ids are public: they stand in logs."""
    key, text = make_key("one", frozenset({"classify"}))
    elsewhere.create(key)
    ring.refresh()
    for sent in (key.id, f"ahse_{key.id}", f"ahse_{key.id}_", key.digest.hex(), text.upper()):
        assert ring.identify(sent) is None
