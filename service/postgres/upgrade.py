"""`ahse store upgrade`: bring the tables of a database to the version that this service needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from service.postgres.database import PostgresDatabase, check_not_newer, read_revision

# An upgrade may rewrite a large table.
_DEADLINE_S = 3600.0


def upgrade(url: str) -> tuple[str | None, str]:
    """Run the migrations that the database has not seen, all or none of them, one upgrade at a time.

    Returns:
        The version before, None for an empty database, and the version after.

    Raises:
        StoreUnavailableError: The database can't be reached or changed, or is newer than this service.
    """
    database = PostgresDatabase(url, deadline_s=_DEADLINE_S)
    try:
        database.revision()  # says what to check where it can't be reached
        return database.write(_upgrade)
    finally:
        database.close()


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('ahse store upgrade', 0))"))
    before = read_revision(connection)
    check_not_newer(before)
    run_migrations(connection, "head")
    after = read_revision(connection)
    assert after is not None  # noqa: S101  (for the types: there is a migration)
    return before, after


def run_migrations(connection: Connection, revision: str) -> None:
    """Run the migrations up to one, `head` for all, inside the transaction of the connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
