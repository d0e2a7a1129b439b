"""One PostgreSQL database, used from several threads: whole transactions, deadlines, errors of one kind."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, LiteralString, TypeVar

import psycopg
import structlog
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from service.errors import StoreUnavailableError
from service.postgres.connection import TimedConnection, connect, is_of_tls
from service.postgres.schema import REVISION, VERSION_TABLE

_log = structlog.get_logger(__name__)

Value = TypeVar("Value")

# For a statement that changes or reads much.
_DEADLINE_S = 10.0
# For all others, among them the one SELECT that each request waits for.
_SHORT_DEADLINE_S = 2.0
# While the database is away it is tried once in this time, and all others are told so at once.
_PAUSE_S = 1.0
# Connections of this process, beside the one for lone SELECTs; transactions that find none free wait.
_N_CONNECTIONS = 4
# The server gives up before the client does, so that no lock outlives its transaction for long.
_SERVER_SHARE = 0.8
# Classes of SQLSTATE with which a server says that it can't go on: lost, full, shutting down or starting.
_GOING = ("08", "53", "57P")

# Loggers whose lines hold texts of the database and parts of the URL; what matters is logged here.
_CHATTY = ("alembic", "psycopg", "sqlalchemy")
_AWAY = "the database of the store does not answer; try again later"
_UNUSABLE = (
    "the database of AHSE_STORE can't be used; check that it runs, its address and name, and the user, "
    "password and rights"
)
_DISTRUSTED = (
    "the database of AHSE_STORE can't be used: there is no connection with TLS as its URL asks for; check "
    "that the server has TLS, that its certificate is for the host in the URL, and that sslrootcert is the "
    "file of the authority that signed it"
)


class PostgresDatabase:
    """Every method is thread-safe, and every error of the database is StoreUnavailableError.

    No text of the database or its libraries is passed on: it may hold the password.

    Args:
        url: postgresql://USER:PASSWORD@HOST/DATABASE.
        deadline_s: Longest wait for the answer to one statement that changes or reads much.
    """

    def __init__(self, url: str, deadline_s: float = _DEADLINE_S) -> None:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._url = url
        self._deadline_s, self._short_deadline_s = deadline_s, min(deadline_s, _SHORT_DEADLINE_S)
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect(url, deadline_s),
            poolclass=QueuePool,
            pool_size=_N_CONNECTIONS,
            max_overflow=0,
            pool_timeout=self._short_deadline_s,
            use_native_hstore=False,
        )
        self._asking: TimedConnection | None = None
        self._ask_lock = threading.Lock()
        # Guarded by the lock: whether the database was away when it was tried last, and when to try again.
        self._lock = threading.Lock()
        self._is_away = False
        self._is_distrusted = False
        self._was_reached = False
        self._try_again = 0.0

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer when it was asked last."""
        return self._is_away

    def check_version(self) -> None:
        """Check that the tables are those that this service needs.

        Raises:
            StoreUnavailableError: They are older or newer, there are none, or the database can't be reached.
        """
        found = self.revision()
        check_not_newer(found)
        if found != REVISION:
            what = "has no tables of the service" if found is None else "has tables of an older version"
            raise StoreUnavailableError(f"the database of AHSE_STORE {what}; run: ahse store upgrade")

    def revision(self) -> str | None:
        """The version of the tables; None: there are none.

        Raises:
            StoreUnavailableError: The database can't be reached; says what to check.
        """
        try:
            return self.read(read_revision)
        except StoreUnavailableError:
            raise StoreUnavailableError(_DISTRUSTED if self._is_distrusted else _UNUSABLE) from None

    def ask(self, query: LiteralString, values: tuple[object, ...] = ()) -> tuple[Any, ...] | None:
        """The first row of one SELECT that needs no transaction; None: there is none.

        It goes past SQLAlchemy and its pool, on a connection kept for it, since requests wait for it. A
        connection that was lost meanwhile is made anew once: a SELECT may be sent again.
        """
        # While one thread tries a database that is away, the others do not wait for what comes of it.
        if not self._ask_lock.acquire(blocking=not self._is_away):
            raise StoreUnavailableError(_AWAY)
        try:
            # With the lock held, so that those who waited for it know what became of the call before theirs.
            with self._answering():
                return self._ask(query, values)
        finally:
            self._ask_lock.release()

    def _ask(self, query: LiteralString, values: tuple[object, ...]) -> tuple[Any, ...] | None:
        kept = self._asking
        if kept is not None and not kept.closed:
            try:
                return kept.execute(query, values).fetchone()
            except psycopg.OperationalError as error:
                if isinstance(error, psycopg.errors.ConnectionTimeout) or not kept.closed:
                    raise
        self._asking = connect(self._url, self._short_deadline_s, autocommit=True)
        return self._asking.execute(query, values).fetchone()

    def read(self, work: Callable[[Connection], Value], *, is_long: bool = False) -> Value:
        """Do work that only reads, in one state of the database, whatever others write meanwhile.

        Args:
            work: The work.
            is_long: Whether it may read much, and has the longer deadline.
        """
        deadline_s = self._deadline_s if is_long else self._short_deadline_s

        def reading() -> Value:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                _set_deadline(connection, deadline_s)
                return work(connection)

        with self._answering():
            return _repeat_once(reading)

    def write(self, work: Callable[[Connection], Value]) -> Value:
        """Do work in one transaction: all of it is kept, or after any error none of it.

        Where the connection is lost, even while the answer to COMMIT is awaited, the work is done again: it
        must recognise what it has already done. After a deadline it is not: it may have been done or not.
        """
        with self._answering():
            return _repeat_once(lambda: self._write(work))

    def _write(self, work: Callable[[Connection], Value]) -> Value:
        # Stated, since a server may have another default: after a lock, what its holder committed is seen.
        with (
            self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            _set_deadline(connection, self._deadline_s)
            limit = f"{round(1000 * _SERVER_SHARE * self._deadline_s)}ms"
            connection.execute(
                text(
                    "SELECT set_config('statement_timeout', :limit, true), "
                    "set_config('idle_in_transaction_session_timeout', :limit, true)"
                ),
                {"limit": limit},
            )
            return work(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        with self._ask_lock:
            if self._asking is not None:
                self._asking.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """What an error of the database means, and whether the database is away."""
        with self._lock:
            now = time.monotonic()
            if self._is_away and now < self._try_again:
                raise StoreUnavailableError(_AWAY)
            # Whoever gets here tries for all.
            self._try_again = now + 2 * self._deadline_s
        try:
            yield
        except (SQLAlchemyError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise self._unavailable(cause) from None
        except BaseException:
            self._note(is_away=False)  # of the work itself: the database has answered
            raise
        self._note(is_away=False)

    def _unavailable(self, cause: BaseException | None) -> StoreUnavailableError:
        code = getattr(cause, "sqlstate", None)
        self._is_distrusted = is_of_tls(cause)
        facts = {"kind": type(cause).__name__, "sqlstate": code, "is_tls": self._is_distrusted}
        # Whatever else has a code was answered: a lock that others hold too long, say, or a missing right.
        if isinstance(cause, psycopg.OperationalError) and (code is None or code.startswith(_GOING)):
            self._note(is_away=True, **facts)
        else:
            _log.warning("store_refused", **facts)
            # Without a code it came from this side, and says nothing of the server.
            self._note(is_away=self._is_away and code is None)
        return StoreUnavailableError(_AWAY)

    def _note(self, *, is_away: bool, **facts: object) -> None:
        with self._lock:
            was_away, self._is_away = self._is_away, is_away
            # One that was never reached is an error of the start or of a command, which say so themselves.
            self._was_reached = self._was_reached or not is_away
            if is_away:
                self._try_again = time.monotonic() + _PAUSE_S
        if is_away and not was_away and self._was_reached:
            _log.warning("store_away", **facts)
        elif was_away and not is_away:
            _log.info("store_back")


def _repeat_once(work: Callable[[], Value]) -> Value:
    """Do work again whose connection was lost: the server may have been restarted since it was used last."""
    with contextlib.suppress(_Lost):
        return _attempt(work)
    return work()


class _Lost(Exception):  # noqa: N818  (never leaves this file)
    """The connection was lost, and the deadline has not passed."""


def _attempt(work: Callable[[], Value]) -> Value:
    try:
        return work()
    except DBAPIError as error:
        if error.connection_invalidated and not isinstance(error.orig, psycopg.errors.ConnectionTimeout):
            raise _Lost from None
        raise


def _set_deadline(connection: Connection, deadline_s: float) -> None:
    """Of each statement from now on; the next work on this connection sets its own."""
    timed = connection.connection.driver_connection
    assert isinstance(timed, TimedConnection)  # noqa: S101  (all of the pool are)
    timed.deadline_s = deadline_s


def read_revision(connection: Connection) -> str | None:
    """The version of the tables; None: there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    row = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).first()  # noqa: S608  (our constant)
    return None if row is None else str(row[0])


def check_not_newer(revision: str | None) -> None:
    """Check the version of tables.

    Raises:
        StoreUnavailableError: They were made by a newer version of the service, which knows more of them.
    """
    if revision is not None and revision > REVISION:
        raise StoreUnavailableError(
            "the database of AHSE_STORE was upgraded by a newer version of the service; use that one"
        )
