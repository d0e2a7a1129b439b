"""Connections whose calls end in time, whatever the server does."""

from __future__ import annotations

import re
from typing import TypeVar

import psycopg
from psycopg.abc import PQGen

_APPLICATION = "ahse"
# The shortest that libpq allows.
_CONNECT_TIMEOUT_S = 2
_POLL_S = 0.1

Result = TypeVar("Result")


class TimedConnection(psycopg.Connection[tuple[object, ...]]):
    """A connection with a deadline for each statement, kept on this side.

    A server that is frozen, or a network that swallows packets, answers no time limit of its own. When one
    passes, the connection is closed, since what the server makes of the statement is unknown.

    Attributes:
        deadline_s: Longest wait for the answer to one statement.
    """

    deadline_s = 2.0

    def wait(self, gen: PQGen[Result], interval: float = _POLL_S, timeout: float | None = None) -> Result:
        """Wait for an answer.

        Raises:
            psycopg.OperationalError: It has not come in time.
        """
        try:
            return super().wait(gen, interval, self.deadline_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:  # the only name that psycopg has for it
            self.close()
            raise psycopg.errors.ConnectionTimeout("no answer in time") from error


def is_of_tls(error: BaseException | None) -> bool:
    """Whether a connection was given up over TLS: certificate, authority, name, or a server without it.

    libpq has no code for that, only its text, which says SSL or certificate in all of these cases.
    """
    is_coded = getattr(error, "sqlstate", None) is not None
    return not is_coded and re.search("SSL|sslmode|certificate", str(error)) is not None


def connect(url: str, deadline_s: float, *, autocommit: bool = False) -> TimedConnection:
    """Connect to the database at a URL.

    Nothing here is a property of the session, and no statement is prepared, so that PgBouncer may give each
    transaction another session.

    Raises:
        psycopg.Error: It can't be reached; the text may hold parts of the URL.
    """
    connection = TimedConnection.connect(
        url,
        autocommit=autocommit,
        prepare_threshold=None,
        connect_timeout=_CONNECT_TIMEOUT_S,
        application_name=_APPLICATION,
    )
    connection.deadline_s = deadline_s
    return connection
