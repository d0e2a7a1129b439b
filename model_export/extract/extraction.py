"""Decode and encode many clips, several at once; a journal on disk keeps the features of finished clips."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from model_export.errors import DatasetError, Problem
from model_export.extract.listing import ListedClip, Listing
from service.arrays import Array
from service.classifier import decode_spec
from service.cli.clip_files import claims_media
from service.encode.clip_features import encode_clip
from service.encode.features import ClipFeatures
from service.errors import ClipUnavailableError, MediaError, NotMediaError
from service.media import Clip, DecodeSpec
from service.registry import Bundle

Decode = Callable[[Path, DecodeSpec], Clip]
"""Turns a file into a clip, somewhere safe; raises MediaError or ClipUnavailableError."""
ClipProgress = Callable[[int, int], None]
"""Called with the number of finished clips and of all clips."""

_TABLE = """CREATE TABLE IF NOT EXISTS features (
    encoders TEXT, path TEXT, size INTEGER, changed_ns INTEGER, visual BLOB, audio BLOB,
    PRIMARY KEY (encoders, path, size, changed_ns)
)"""
_SELECT = """SELECT visual, audio FROM features
    WHERE encoders = ? AND path = ? AND size = ? AND changed_ns = ?"""
_INSERT = "INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?, ?)"
FileKey = tuple[bytes, int, int]
"""Path, size and time of change of a file, by which its features are kept; a path need not be UTF-8."""
# Of files that are something else, are damaged, or have another table.
_NO_JOURNAL = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)


def file_key(path: Path) -> FileKey:
    """The key of a file as it is now.

    Raises:
        OSError: The file can't be looked at; `FileNotFoundError` where there is none, or no regular one.
        ValueError: No file can have such a path.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise FileNotFoundError(path)
    return os.fsencode(os.path.realpath(path)), about.st_size, about.st_mtime_ns


class Journal:
    """Features of finished clips in a file, so that an extraction that was stopped can continue.

    A clip is identified by the encoders, its path, size and time of change. Clips that failed are not kept:
    the next attempt tries them again.

    Args:
        file: The journal's file; made if it is missing.
        encoders: Digest of the encoders that make the features.

    Raises:
        DatasetError: From every method: the file is something else, or damaged, or can't be written.
    """

    def __init__(self, file: Path, encoders: str) -> None:
        self.file = file
        self._encoders = encoders
        try:
            self._database = sqlite3.connect(file, isolation_level=None)
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        # A power cut may lose the last clips, not the file; otherwise every clip would wait for the disk.
        self._run("PRAGMA journal_mode = WAL")
        self._run("PRAGMA synchronous = NORMAL")
        self._run(_TABLE)

    def get(self, key: FileKey) -> ClipFeatures | None:
        """The features of a clip, or None."""
        rows = self._run(_SELECT, self._encoders, *key)
        return ClipFeatures(*(_array(blob) for blob in rows[0])) if rows else None

    def put(self, key: FileKey, features: ClipFeatures) -> None:
        """Keep the features of a clip."""
        blobs = (None if one is None else one.tobytes() for one in (features.visual, features.audio))
        self._run(_INSERT, self._encoders, *key, *blobs)

    def remove(self) -> None:
        """Remove the file, once the features are written elsewhere."""
        self._database.close()
        self.file.unlink()

    def _run(self, statement: str, *values: object) -> list[tuple[bytes | None, ...]]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            self._database.close()
            raise self._refusal(error) from error

    def _refusal(self, error: sqlite3.Error) -> DatasetError:
        if error.sqlite_errorcode & 0xFF in _NO_JOURNAL:  # the rest says more of the same
            what = f"can't be used: {error}; to start again, remove it"
        else:
            what = f"can't be written in {self.file.parent}: {error}; mend that, or choose a place with --out"
        return DatasetError(self.file, [Problem(self.file.name, what)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()


def _array(blob: bytes | None) -> Array | None:
    return None if blob is None else np.frombuffer(blob, np.float32)


@dataclass(frozen=True)
class FailedClip:
    """A clip that can't be used.

    Attributes:
        clip: The clip.
        code: Stable name of the kind of error.
        message: What is wrong, for the user.
    """

    clip: ListedClip
    code: str
    message: str


_Decoded = tuple[FileKey, Clip] | FailedClip
"""A clip and the key of its file from before it was decoded, or why there is none."""


@dataclass(frozen=True)
class Extracted:
    """The result of an extraction.

    Attributes:
        clips: Those that could be used, in the order of the listing.
        features: Of each of them.
        failed: The other clips, with the reason.
        n_ignored: Files that are not media and are not named as such.
        n_resumed: Clips that were in the journal.
    """

    clips: tuple[ListedClip, ...]
    features: tuple[ClipFeatures, ...]
    failed: tuple[FailedClip, ...]
    n_ignored: int
    n_resumed: int


def extract_clips(
    listing: Listing,
    bundle: Bundle,
    decode: Decode,
    journal: Journal,
    n_decoders: int,
    progress: ClipProgress,
) -> Extracted:
    """Compute the features of every usable clip, exactly as serving does.

    Args:
        listing: The clips.
        bundle: Bundle whose encoders are used; they run in this thread.
        decode: Decodes clips, several at once.
        journal: Has the features of finished clips, and is given those of others as they finish.
        n_decoders: Clips that are decoded at once while the encoders run.
        progress: Called after each clip.
    """
    known = _known(listing, journal)
    n_known, failed = len(known), []
    progress(n_known, len(listing.clips))
    missing = [clip for clip in listing.clips if clip.path not in known]
    decoded = _decode_ahead(missing, decode, decode_spec(bundle.manifest), n_decoders)
    for n_done, (clip, one) in enumerate(decoded, n_known + 1):
        if isinstance(one, FailedClip):
            failed.append(one)
        elif isinstance(features := _encode(bundle, clip, one[1]), FailedClip):
            failed.append(features)
        else:
            journal.put(one[0], features)
            known[clip.path] = features
        progress(n_done, len(listing.clips))
    named = [one for one in failed if not (listing.from_folder and _is_no_media(one))]
    clips = tuple(clip for clip in listing.clips if clip.path in known)
    return Extracted(
        clips=clips,
        features=tuple(known[clip.path] for clip in clips),
        failed=tuple(named),
        n_ignored=listing.n_ignored + len(failed) - len(named),
        n_resumed=n_known,
    )


def _known(listing: Listing, journal: Journal) -> dict[Path, ClipFeatures]:
    """Features from the journal, by the clip's path."""
    keys = ((clip.path, _key_of(clip)) for clip in listing.clips)
    kept = ((path, journal.get(key)) for path, key in keys if not isinstance(key, FailedClip))
    return {path: features for path, features in kept if features is not None}


def _key_of(clip: ListedClip) -> FileKey | FailedClip:
    """The key of a clip's file as it is now, or why it can't be read."""
    try:
        return file_key(clip.path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return FailedClip(clip, "no_file", "There is no such file.")
    except OSError as error:
        return FailedClip(clip, ClipUnavailableError.code, f"The file can't be looked at: {error.strerror}.")


def _decode_ahead(
    clips: Sequence[ListedClip], decode: Decode, spec: DecodeSpec, n_decoders: int
) -> Iterator[tuple[ListedClip, _Decoded]]:
    """Decode in threads and yield in order, only a few clips ahead, because a decoded clip is large."""
    with ThreadPoolExecutor(n_decoders) as threads:
        ahead: deque[tuple[ListedClip, Future[_Decoded]]] = deque()
        try:
            for clip in clips:
                ahead.append((clip, threads.submit(_decode, decode, clip, spec)))
                if len(ahead) > 2 * n_decoders:
                    yield _result(*ahead.popleft())
            while ahead:
                yield _result(*ahead.popleft())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _result(clip: ListedClip, decoded: Future[_Decoded]) -> tuple[ListedClip, _Decoded]:
    return clip, decoded.result()


def _decode(decode: Decode, clip: ListedClip, spec: DecodeSpec) -> _Decoded:
    key = _key_of(clip)  # before decoding: the file may be replaced or removed meanwhile
    if isinstance(key, FailedClip):
        return key
    try:
        return key, decode(clip.path, spec)
    except (MediaError, ClipUnavailableError) as error:
        return FailedClip(clip, error.code, error.message)


def _encode(bundle: Bundle, clip: ListedClip, decoded: Clip) -> ClipFeatures | FailedClip:
    features = encode_clip(bundle.encoders, decoded)
    tracks = (features.visual, features.audio)
    if all(track is None or np.isfinite(track).all() for track in tracks):
        return features
    return FailedClip(clip, "not_finite", "The encoders gave numbers that are not finite.")


def _is_no_media(failed: FailedClip) -> bool:
    """Whether a file is no clip and its name does not claim that it is."""
    return failed.code == NotMediaError.code and not claims_media(failed.clip.name)
