"""Opens the stores that the settings ask for: files in the data directory, or one PostgreSQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.access.key_store import KeyStore
from service.access.sqlite import SqliteKeyStore
from service.embed.embedding_store import EmbeddingStore
from service.embed.sqlite import SqliteEmbeddingStore
from service.encode.clip_store import SqliteClipStore
from service.encode.known_clips import ClipStore
from service.jobs.sqlite.store import SqliteJobStore
from service.jobs.store import JobStore
from service.labels.sqlite.store import SqliteLabelStore
from service.labels.store import LabelStore
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.database import PostgresDatabase


class Stores:
    """The stores of one process. Only where replicas share a database are its packages imported.

    Args:
        settings: Where they are, and what they may hold.

    Raises:
        StoreUnavailableError: The database can't be used; the message says why.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = None if settings.store is None else _open(settings.store.get_secret_value())

    @property
    def is_shared(self) -> bool:
        """Whether replicas share them."""
        return self._database is not None

    @property
    def is_away(self) -> bool:
        """Whether a shared database did not answer when it was asked last."""
        return self._database is not None and self._database.is_away

    def labels(self) -> LabelStore:
        """Open the label sets."""
        limits = self._settings.max_labels_per_set, self._settings.max_prompt_characters
        if self._database is None:
            return SqliteLabelStore(self._settings.data_dir / "labels.sqlite3", *limits)
        from service.labels.postgres.store import PostgresLabelStore

        return PostgresLabelStore(self._database, *limits)

    def keys(self) -> KeyStore:
        """Open the API keys."""
        if self._database is None:
            return SqliteKeyStore(self._settings.data_dir / "keys.sqlite3")
        from service.access.postgres import PostgresKeyStore

        return PostgresKeyStore(self._database)

    def embeddings(self) -> EmbeddingStore | None:
        """Open the embeddings of names; None: none are kept."""
        capacity = self._settings.label_store_size
        if not capacity:
            return None
        if self._database is None:
            return SqliteEmbeddingStore(self._settings.data_dir / "embeddings.sqlite3", capacity)
        from service.embed.postgres import PostgresEmbeddingStore

        return PostgresEmbeddingStore(self._database, capacity)

    def clips(self) -> ClipStore | None:
        """Open the features of clips, a file in any case; None: none are kept."""
        settings = self._settings
        if not settings.clip_store_bytes:
            return None
        path = settings.data_dir / "clips.sqlite3"
        return SqliteClipStore(path, settings.clip_store_bytes, settings.decode_limits())

    def jobs(self) -> JobStore:
        """Open the jobs; clips are in the data directory in any case."""
        directory, limits = self._settings.data_dir, self._settings.job_limits()
        if self._database is None:
            return SqliteJobStore(directory, limits)
        from service.jobs.postgres.store import PostgresJobStore

        return PostgresJobStore(self._database, directory, limits)

    def close(self) -> None:
        """Close the database, after the stores."""
        if self._database is not None:
            self._database.close()


def _open(url: str) -> PostgresDatabase:
    from service.postgres.database import PostgresDatabase

    database = PostgresDatabase(url)
    try:
        database.check_version()
    except BaseException:
        database.close()
        raise
    return database
