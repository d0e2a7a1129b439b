"""One SQLite file, used from several threads: WAL mode, a connection for each thread, whole transactions."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import structlog

from service.errors import StoreUnavailableError

_BUSY_TIMEOUT_S = 5.0
# Pages that a connection keeps: by default 2 MB for each thread and file, which the system caches too.
_CACHE_KIB = 256
# Marks the file as one of the service: "AHSE".
_APPLICATION_ID = 0x41485345
_OWNER_ONLY = 0o600

_log = structlog.get_logger(__name__)

Migration = str | Callable[[sqlite3.Connection], None]
"""A statement, or a function that changes the file within the transaction it is called in."""


class Database:
    """Readers never wait for a writer, and every error is StoreUnavailableError.

    Args:
        path: Path of the file; its directory is created.
        schema: Statements that create the missing tables.
        durability: `FULL` makes an acknowledged write survive a power cut, `NORMAL` is faster.
        content: What is stored, for messages: the ... store.
        migrations: One for each version of the file: the first brings what `schema` makes to version 1. A
            file keeps its version, and gets the migrations that it has not seen, all or none of them.
    """

    def __init__(
        self,
        path: Path,
        schema: str,
        durability: Literal["FULL", "NORMAL"],
        content: str,
        migrations: Sequence[Migration] = (),
    ) -> None:
        self._path = path
        self._content = content
        self._durability = durability
        self._threads = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connection()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(schema)
            self._migrate(migrations)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailableError(
                f"the {content} store can't be opened; check that its directory exists and is writable"
            ) from error

    def _migrate(self, migrations: Sequence[Migration]) -> None:
        with self.writing() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(migrations):
                raise StoreUnavailableError(
                    f"the {self._content} store was written by a newer version of the service; use that one, "
                    "or restore an older file"
                )
            for number, migration in enumerate(migrations[version:], start=version + 1):
                if isinstance(migration, str):
                    connection.execute(migration)
                else:
                    migration(connection)
                connection.execute(f"PRAGMA user_version = {number}")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the file, whatever others write meanwhile."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is kept, or after any error none of it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def check(self) -> None:
        """Write, as requests do.

        Raises:
            StoreUnavailableError: The file is gone, or can't be written.
        """
        self.check_present()
        with self.writing() as connection:
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    def check_present(self) -> None:
        """Check that the file is still there: writes to a deleted one succeed, and are lost.

        Raises:
            StoreUnavailableError: It is gone, or its file system does not answer.
        """
        try:
            is_there = self._path.is_file()
        except OSError as error:
            raise StoreUnavailableError(f"the file of the {self._content} store can't be read now") from error
        if not is_there:
            raise StoreUnavailableError(
                f"the file of the {self._content} store is gone; restore it, and restart the service"
            )

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.executescript(
                f"PRAGMA foreign_keys = ON; PRAGMA synchronous = {self._durability}; "
                f"PRAGMA cache_size = -{_CACHE_KIB};"
            )
            self._threads.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # After a COMMIT that failed, too: the connection must not stay inside a transaction.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreUnavailableError(
                f"the {self._content} store does not answer; try again later"
            ) from error


def make_private(path: Path, content: str) -> None:
    """Make a file that only its owner can read, before SQLite does: its other files get the same permissions.

    Args:
        path: Path of the file; its directory is created.
        content: What will be stored, for messages: the ... store.

    Raises:
        StoreUnavailableError: It can't be made, or is somebody else's.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _OWNER_ONLY))
        path.chmod(_OWNER_ONLY)
    except OSError as error:
        raise StoreUnavailableError(
            f"the {content} store can't be opened; check that the data directory is writable and the file "
            "yours"
        ) from error


def open_cache(path: Path, schema: str, content: str) -> Database:
    """Open a file that holds nothing but a cache; one that is damaged is set aside and begun anew.

    Args:
        path: Path of the file.
        schema: Statements that create the missing tables.
        content: What is stored, for messages: the ... store.

    Raises:
        StoreUnavailableError: The file can't be used, and another one could not either.
    """
    try:
        # A write that a power cut takes away is made again.
        return Database(path, schema, "NORMAL", content)
    except StoreUnavailableError as error:
        if not isinstance(error.__cause__, sqlite3.DatabaseError) or isinstance(
            error.__cause__, sqlite3.OperationalError
        ):
            raise  # locked, or no permission: another file would not help
    _log.warning("cache_set_aside", file=path.name)
    with suppress(FileNotFoundError):  # another worker has done it
        path.rename(path.with_name(f"{path.name}.damaged"))
    for suffix in ("-wal", "-shm"):  # they belong to the damaged file, and would damage the new one
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return Database(path, schema, "NORMAL", content)
