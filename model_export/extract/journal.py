"""Features of the clips that are done, on disk, so that a stopped extraction goes on where it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from model_export.errors import DatasetError, Problem
from model_export.extract.listing import ListedClip
from service.encode.features import Array, ClipFeatures

_TABLE = """CREATE TABLE IF NOT EXISTS features (
    encoders TEXT, path TEXT, size INTEGER, changed_ns INTEGER, visual BLOB, audio BLOB,
    PRIMARY KEY (encoders, path, size, changed_ns)
)"""
_SELECT = """SELECT visual, audio FROM features
    WHERE encoders = ? AND path = ? AND size = ? AND changed_ns = ?"""
_INSERT = "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?, ?)"
_Key = tuple[str, str, int, int]


class Journal:
    """A file beside the feature file, which replaces it in the end.

    A clip is known again by the encoders, its path, size and time of change. Clips that failed are not
    kept: the next attempt tries them anew.

    Args:
        file: where it is kept; made if it is missing.
        encoders: digest of the encoders that make the features.

    Raises:
        DatasetError: from every method: the file is something else, or damaged, or the disk is full.
    """

    def __init__(self, file: Path, encoders: str) -> None:
        self.file = file
        self._encoders = encoders
        self._database = sqlite3.connect(file, isolation_level=None)
        # A power cut may cost the last clips, not the file; without this every clip waits for the disk.
        self._run("PRAGMA journal_mode = WAL")
        self._run("PRAGMA synchronous = NORMAL")
        self._run(_TABLE)

    def get(self, clip: ListedClip) -> ClipFeatures | None:
        """What is known of a clip, or None."""
        rows = self._run(_SELECT, *self._key(clip))
        return ClipFeatures(*(_array(blob) for blob in rows[0])) if rows else None

    def put(self, clip: ListedClip, features: ClipFeatures) -> None:
        """Keep what was found out of a clip."""
        blobs = (None if one is None else one.tobytes() for one in (features.visual, features.audio))
        self._run(_INSERT, *self._key(clip), *blobs)

    def remove(self) -> None:
        """Remove the file: the feature file is written."""
        self._database.close()
        self.file.unlink()

    def _run(self, statement: str, *values: object) -> list[tuple[bytes | None, ...]]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._database.close()
            what = f"can't be used: {error}; to start anew, remove it"
            raise DatasetError(self.file, [Problem(self.file.name, what)]) from error

    def _key(self, clip: ListedClip) -> _Key:
        about = clip.path.stat()
        return self._encoders, str(clip.path.resolve()), about.st_size, about.st_mtime_ns

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()


def _array(blob: bytes | None) -> Array | None:
    return None if blob is None else np.frombuffer(blob, np.float32)
