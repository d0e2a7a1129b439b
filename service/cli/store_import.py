"""What `ahse store import` does: the files of a data directory into a database, in one transaction."""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.access.sqlite import SqliteKeyStore
from service.errors import PreconditionFailedError, SettingsError
from service.jobs.sqlite.store import SqliteJobStore
from service.labels.sqlite.store import SqliteLabelStore
from service.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Of one statement, which may have to wait for changes that are under way.
_DEADLINE_S = 60.0
# Names that a message holds.
_MAX_SHOWN = 10


@dataclass(frozen=True)
class Imported:
    """How many of one kind were brought in.

    Attributes:
        n_new: Those that were written.
        n_known: Those that were there already.
    """

    n_new: int
    n_known: int


def import_files(url: str, settings: Settings) -> tuple[Imported, Imported]:
    """Bring the label sets and API keys of a data directory into a database: all or, after an error, none.

    Args:
        url: Of the database, whose tables are there.
        settings: With the data directory.

    Returns:
        What became of label sets, and of keys.

    Raises:
        SettingsError: There are no such files.
        PreconditionFailedError: The database has other sets of the same names, or other keys of the same ids.
        StoreUnavailableError: The files or the database can't be used.
    """
    from service.postgres.database import PostgresDatabase

    sets_file, keys_file = (settings.data_dir / name for name in ("labels.sqlite3", "keys.sqlite3"))
    if not (sets_file.is_file() or keys_file.is_file()):
        raise SettingsError(
            "there are neither label sets nor API keys in the data directory; name that of the service with "
            "--data-dir"
        )
    with ExitStack() as stack:
        database = stack.enter_context(closing(PostgresDatabase(url, _DEADLINE_S)))
        database.check_version()
        # Opening a file makes it, or brings it up to date.
        sets = keys = None
        if sets_file.is_file():
            limits = settings.max_labels_per_set, settings.max_prompt_characters
            sets = stack.enter_context(closing(SqliteLabelStore(sets_file, *limits)))
        if keys_file.is_file():
            keys = stack.enter_context(closing(SqliteKeyStore(keys_file)))
        return database.write(
            lambda connection: (
                Imported(0, 0) if sets is None else _import_sets(connection, sets),
                Imported(0, 0) if keys is None else _import_keys(connection, keys),
            )
        )


def n_unfinished_jobs(settings: Settings) -> int:
    """Jobs in the files of a data directory that have not ended."""
    if not (settings.data_dir / "jobs.sqlite3").is_file():
        return 0
    with closing(SqliteJobStore(settings.data_dir, settings.job_limits())) as jobs:
        return jobs.usage().n_unfinished


def _import_sets(connection: Connection, sets: SqliteLabelStore) -> Imported:
    from service.labels.postgres.rows import import_set, lock_all_sets

    lock_all_sets(connection)
    written = {found.name: import_set(connection, found, owner) for found, owner in sets.owned()}
    return _counted("label sets", written)


def _import_keys(connection: Connection, keys: SqliteKeyStore) -> Imported:
    from service.access.postgres import insert_key

    return _counted("API keys", {key.id: insert_key(connection, key) for key in keys.list()})


def _counted(kind: str, written: dict[str, bool | None]) -> Imported:
    """Whether each was written; None: another one is there under its name.

    Raises:
        PreconditionFailedError: There are such.
    """
    others = [name for name, is_new in written.items() if is_new is None]
    if others:
        shown = ", ".join(others[:_MAX_SHOWN]) + (", ..." if len(others) > _MAX_SHOWN else "")
        raise PreconditionFailedError(
            f"nothing was imported: the database has other {kind} under {len(others)} of the names in the "
            f"files: {shown}; delete them in one of the two places"
        )
    n_new = sum(is_new is True for is_new in written.values())
    return Imported(n_new, len(written) - n_new)
