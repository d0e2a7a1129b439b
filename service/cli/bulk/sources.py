"""The clips of a plan: files, folders, patterns, lists in CSV, and objects of s3://, gs:// and the like."""

from __future__ import annotations

import csv
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from service.cli.clip_files import STDIN, ClipFile, clip_at, find_clips, state_of
from service.errors import AhseError, ClipUnavailableError, InvalidOptionError

_COLUMN = "clip"
_UNAVAILABLE = "the clip can't be read now; check its store, the rights to it, and the room for a copy"
_GONE = "the clip can't be read; it was there when the plan was made"


class ClipChangedError(AhseError):
    """A clip is not the one that was planned."""

    code = "clip_changed"


class ClipGoneError(AhseError):
    """A clip is not there any more, or was not when it was planned."""

    code = "clip_gone"


def find(inputs: Sequence[str]) -> tuple[tuple[ClipFile, ...], str]:
    """All clips, each once, in the order given.

    Args:
        inputs: What `ahse classify` takes; a file that ends in .csv, with a column `clip` of paths, relative
            to it, or URLs; and URLs of files, folders and patterns that fsspec can open.

    Returns:
        The clips, and what was left out, in words.

    Raises:
        InvalidOptionError: A list has no such column, a URL can't be opened, a file can't be looked at now,
            or it is standard input.
    """
    clips: dict[str, ClipFile] = {}
    skipped = []
    for word in inputs:
        if word == STDIN:
            raise InvalidOptionError("standard input can't be read again by workers; name a file")
        if "://" in word:
            found = list(_remote(word))
        elif word.lower().endswith(".csv"):
            found = [one for entry in _listed(Path(word)) for one in _entry(entry)]
        else:
            of_word = find_clips([word])
            found = [_absolute(one) for one in of_word.clips]
            skipped += [text] if (text := of_word.skipped_text()) else []
        for clip in found:
            clips.setdefault(clip.name, clip)
    if unavailable := [clip for clip in clips.values() if clip.code == ClipUnavailableError.code]:
        raise InvalidOptionError(
            f"{len(unavailable)} of {len(clips)} clips can't be planned, such as {unavailable[0].name}: "
            f"{unavailable[0].problem}; try again, or leave them out"
        )
    return tuple(clips.values()), "; ".join(skipped)


def _absolute(clip: ClipFile) -> ClipFile:
    """Under its whole path, since workers may run in other folders, and read it from a text file."""
    path = clip.path.absolute()
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    problem = clip.problem if name == str(path) else "its name is not UTF-8; rename it"
    return replace(clip, name=name, path=path, problem=problem)


def _entry(entry: str) -> Iterator[ClipFile]:
    """The clip of one row; a folder or a pattern is none."""
    if "://" in entry:
        yield from _remote(entry)
    else:
        yield _absolute(clip_at(Path(entry), Path(Path(entry).name)))


def _listed(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened, restval="")
            if _COLUMN not in (rows.fieldnames or ()):
                raise InvalidOptionError(f"{file.name} has no column {_COLUMN!r} in its first row")
            for row in rows:
                entry = row[_COLUMN].strip()
                if entry:
                    yield entry if "://" in entry else str(file.parent / entry)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidOptionError(f"{file.name} is no CSV in UTF-8; save it as one") from error


def _remote(url: str) -> Iterator[ClipFile]:
    """The objects that a URL stands for, in order of their names."""
    system, path = _open_system(url)
    is_query = url.startswith(("http://", "https://"))
    try:
        if "*" in url or ("?" in url and not is_query):
            found = system.glob(path, detail=True)
        elif system.isdir(path):
            found = system.find(path, detail=True)
        else:
            found = {path: system.info(path)}
    except Exception as error:
        raise InvalidOptionError(f"{url} can't be listed") from error
    for name in sorted(found):
        facts = found[name]
        if facts.get("type") == "file":
            full = system.unstrip_protocol(name)
            if "::" in url or system._strip_protocol(full) != name:
                raise InvalidOptionError(f"{url} can't be planned: workers could not find {name} again")
            yield ClipFile(full, Path(), Path(name), *_state(facts))


# What tells a change of an object, by the names that file systems have for it.
_MARKS = ("ETag", "etag", "LastModified", "mtime", "created")


def _state(facts: dict[str, Any], mark: str | None = None) -> tuple[int | None, str | None]:
    """Size, and what tells a change, with its name: by this mark, or without one by the first there is."""
    known = [one for one in _MARKS if facts.get(one) and mark in (None, one)]
    return facts.get("size"), f"{known[0]}={_as_text(facts[known[0]])}" if known else None


def _as_text(value: Any) -> str:
    """A mark; times are told as dates here and as seconds there."""
    if isinstance(value, (int, float)):
        value = datetime.fromtimestamp(value, UTC)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _fsspec(scheme: str) -> Any:
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise InvalidOptionError(
            f"{scheme}:// needs the package fsspec: pip install 'ahse[bulk]', and the one for its scheme, "
            "such as s3fs or gcsfs"
        ) from error
    return fsspec


def _open_system(url: str) -> tuple[Any, str]:
    try:
        system, path = _fsspec(url.partition("://")[0]).core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InvalidOptionError(f"{url} can't be opened; install the package for its scheme") from error
    return system, path


def check_schemes(schemes: Iterable[str]) -> None:
    """Check that URLs can be opened here; no store is asked.

    Args:
        schemes: Of the URLs, such as s3.

    Raises:
        InvalidOptionError: A package for one of them is not installed.
    """
    for scheme in schemes:
        try:
            _fsspec(scheme).get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            raise InvalidOptionError(
                f"clips of {scheme}:// can't be opened here; install the package for this scheme, such as "
                "s3fs or gcsfs"
            ) from error


@contextmanager
def local(clip: ClipFile) -> Iterator[Path]:
    """The clip as a file of this machine, for as long as the block takes.

    Raises:
        ClipGoneError: There is no such clip.
        ClipUnavailableError: It can't be read now.
        ClipChangedError: It has another size or another time of change than when it was planned.
    """
    if "://" in clip.name:
        with _copied(clip) as copy:
            yield copy
    else:
        _check(clip)
        yield clip.path


def _check(clip: ClipFile) -> None:
    """Whether a file of this machine is there, and is the one that was planned."""
    try:
        facts = clip.path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ClipGoneError(_GONE) from error
    except OSError as error:
        raise ClipUnavailableError(_UNAVAILABLE) from error
    _compare(clip, state_of(facts) if stat.S_ISREG(facts.st_mode) else None)


@contextmanager
def _copied(clip: ClipFile) -> Iterator[Path]:
    """A copy of an object, in a file without a name, which can't be left behind."""
    try:
        copy = tempfile.TemporaryFile()  # noqa: SIM115  (closed by the block below)
    except OSError as error:
        raise ClipUnavailableError(_UNAVAILABLE) from error
    with copy:
        try:
            system, path = _open_system(clip.name)
            _compare(clip, _state(system.info(path), (clip.modified or "").partition("=")[0]))
            with system.open(path, "rb") as remote:
                shutil.copyfileobj(remote, copy)
            copy.flush()
        except (ClipChangedError, ClipGoneError):
            raise
        except FileNotFoundError as error:
            raise ClipGoneError(_GONE) from error
        except Exception as error:
            raise ClipUnavailableError(_UNAVAILABLE) from error
        yield Path(f"/dev/fd/{copy.fileno()}")


def _compare(planned: ClipFile, now: tuple[int | None, str | None] | None) -> None:
    if now is None:
        raise ClipGoneError(_GONE)
    if now != (planned.size_bytes, planned.modified):
        raise ClipChangedError("the clip has changed since the plan was made; plan it anew")
