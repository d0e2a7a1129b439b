"""A server that commits, and a connection that is lost before it says so."""

from __future__ import annotations

import pytest


def lose_answers_to_commit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lose the next answer to COMMIT; the list that is returned then holds 1. Empty it to lose another."""
    import psycopg

    from service.postgres.connection import TimedConnection

    commit, lost = TimedConnection.commit, list[int]()

    def committing(connection: TimedConnection) -> None:
        commit(connection)
        if not lost:
            lost.append(1)
            connection.close()
            raise psycopg.OperationalError("lost")

    monkeypatch.setattr(TimedConnection, "commit", committing)
    return lost
