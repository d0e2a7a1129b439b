"""The keys of a running service, in memory: read again beside requests, so that none waits for the store."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Mapping
from ctypes import c_bool
from datetime import UTC, datetime

import structlog

from service.access.audit import record_edit
from service.access.key_store import KeyStore
from service.access.keys import ApiKey, digest_of, id_in

_log = structlog.get_logger(__name__)

ENVIRONMENT_ID = "environment"
_REFRESH_S = 0.5
_NO_DIGEST = bytes(32)
_COMMAND_LINE = "command line"


class KeyRing:
    """Knows the keys of the store and the one from the environment.

    Args:
        store: Where keys are kept.
        environment_key: A key with every scope, as text; None: there is none.
        seen_key: Whether the service has seen a key, in memory that its workers share.

    Raises:
        StoreUnavailableError: The store can't be read. Later, the keys that were read last stay.
    """

    def __init__(
        self, store: KeyStore, environment_key: str | None = None, seen_key: c_bool | None = None
    ) -> None:
        self._store = store
        self._environment = None if environment_key is None else _environment_key(environment_key)
        self._keys: Mapping[str, ApiKey] = {key.id: key for key in store.list()}
        self._seen_key = c_bool() if seen_key is None else seen_key
        if self._environment is not None or self._keys:
            self._seen_key.value = True
        self._is_readable = True
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._refresh_regularly, name="keys", daemon=True)

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key.

        Once there was one, they do until the service ends, also in workers that are started again: a key that
        was revoked must not open the service to everyone.
        """
        return self._seen_key.value

    def identify(self, text: str) -> ApiKey | None:
        """The key of that text, also when it has expired; None: there is no such key.

        Whatever the text is, the same work is done, and digests are compared in constant time, so the time
        it takes says nothing about the keys there are.
        """
        stored = self._keys.get(id_in(text))
        given = digest_of(text)
        is_stored = hmac.compare_digest(given, stored.digest if stored else _NO_DIGEST)
        is_environment = hmac.compare_digest(
            given, self._environment.digest if self._environment else _NO_DIGEST
        )
        if stored is not None and is_stored:
            return stored
        return self._environment if is_environment else None

    def refresh(self) -> None:
        """Read the store again; if it can't be read, keep what is known."""
        try:
            keys = self._store.list()
        except Exception as error:  # noqa: BLE001  (the thread must not end: revoked keys would open for good)
            if self._is_readable:
                _log.error("keys_unreadable", consequence="the keys known before stay", exc_info=error)
            self._is_readable = False
            return
        if not self._is_readable:
            _log.info("keys_readable_again")
        self._is_readable = True
        self._take(keys)

    def _take(self, keys: list[ApiKey]) -> None:
        """Go on with these keys; what others changed at the command line belongs to the audit log too."""
        before, now = self._keys, {key.id: key for key in keys}
        # Before the keys change: no request may see none and believe that it needs none.
        if now:
            self._seen_key.value = True
        self._keys = now
        for key_id in sorted(now.keys() - before.keys()):
            record_edit("create_key", key_id, target_name=now[key_id].name, client=_COMMAND_LINE)
        for key_id in sorted(before.keys() - now.keys()):
            record_edit("revoke_key", key_id, target_name=before[key_id].name, client=_COMMAND_LINE)

    def start(self) -> None:
        """Read the store regularly, in a thread, until `close`."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading; who opened the store closes it."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _refresh_regularly(self) -> None:
        while not self._stopped.wait(_REFRESH_S):
            self.refresh()


def _environment_key(text: str) -> ApiKey:
    return ApiKey(
        ENVIRONMENT_ID, "AHSE_API_KEY", digest_of(text), frozenset({"admin"}), created=datetime.now(UTC)
    )
