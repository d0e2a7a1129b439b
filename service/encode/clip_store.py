"""Features of clips in a SQLite file, which may be deleted or damaged: it holds nothing but a cache."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from service import __version__
from service.database import open_cache
from service.encode.clip_record import from_record, to_record
from service.encode.known_clips import ClipKey, EncodedClip
from service.errors import StoreUnavailableError
from service.media import DecodeLimits

# How features are made of a clip, and what a record holds: changed whenever that changes.
_LAYOUT = 2
# `used` counts uses of the store; the lowest was used longest ago.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS clips (
    key BLOB NOT NULL PRIMARY KEY,
    used INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS clips_used ON clips (used);
"""
_NEXT_USE = "(SELECT coalesce(max(used), 0) + 1 FROM clips)"
_N_BYTES = """
SELECT (page_count - freelist_count) * page_size
FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""
# Of one write, so that after the capacity was lowered nobody waits until all of the rest is gone.
_MAX_REMOVED = 100


class SqliteClipStore:
    """A ClipStore in a file of its own, which several processes may use at once.

    Args:
        path: Of the file.
        capacity: Largest size of the file, in bytes.
        limits: On which clips are decoded, and some of their frames chosen.
    """

    def __init__(self, path: Path, capacity: int, limits: DecodeLimits) -> None:
        self._database = open_cache(path, _SCHEMA, "clip")
        self._capacity = capacity
        self._made_by = [_LAYOUT, __version__, version("av"), asdict(limits)]

    def get(self, key: ClipKey) -> EncodedClip | None:
        """What is kept of a clip."""
        place = self._place(key)
        with self._database.reading() as connection:
            row = connection.execute("SELECT record FROM clips WHERE key = ?", (place,)).fetchone()
        if row is None:
            return None
        with suppress(StoreUnavailableError):  # a full disk can still be read
            self._use(place)
        try:
            return from_record(row[0])
        except ValueError:
            return None

    def put(self, key: ClipKey, encoded: EncodedClip) -> None:
        """Keep a clip, in place of those that were used longest ago."""
        record = to_record(encoded.without_arrays())
        if len(record) > self._capacity:
            return
        with self._database.writing() as connection:
            self._make_room(connection, len(record))
            connection.execute(
                f"REPLACE INTO clips (key, used, record) VALUES (?, {_NEXT_USE}, ?)",  # noqa: S608 (ours)
                (self._place(key), record),
            )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _use(self, place: bytes) -> None:
        with self._database.writing() as connection:
            connection.execute(f"UPDATE clips SET used = {_NEXT_USE} WHERE key = ?", (place,))  # noqa: S608 (ours)

    def _make_room(self, connection: sqlite3.Connection, n_new: int) -> None:
        """Remove clips until there is room for so many bytes, in pages that they leave."""
        for _ in range(_MAX_REMOVED):
            (n_bytes,) = connection.execute(_N_BYTES).fetchone()
            if n_bytes + n_new <= self._capacity:
                return
            connection.execute("DELETE FROM clips WHERE used = (SELECT min(used) FROM clips)")

    def _place(self, key: ClipKey) -> bytes:
        """Where a clip is kept: a hash of all that its features depend on."""
        depends = [*self._made_by, key.sha256, key.encoders_digest, asdict(key.spec)]
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).digest()
