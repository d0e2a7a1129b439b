"""The clips of a plan: files, folders, patterns, lists in CSV, and objects of s3://, gs:// and the like."""

from __future__ import annotations

import csv
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from service.cli.clip_files import (
    NO_MATCH,
    REASONS,
    STDIN,
    ClipFile,
    Found,
    clip_at,
    find_clips,
    in_utf8,
    kind_by_name,
    state_of,
)
from service.errors import AhseError, ClipUnavailableError, InvalidOptionError

_COLUMN = "clip"
_HTTP = ("http://", "https://")
_NOT_FOUND = {404, 410}
_UNAVAILABLE = "the clip can't be read now; check its store, the rights to it, and the room for a copy"
_GONE = "the clip can't be read; it was there when the plan was made"
_NOT_MOUNTED = "the clip is not there, and neither is anything else in its folder; is its volume mounted?"
_NOT_UTF8 = "its name is not UTF-8; rename it"
_LOCAL = "file://"


class ClipChangedError(AhseError):
    """A clip is not the one that was planned."""

    code = "clip_changed"


class ClipGoneError(AhseError):
    """A clip is not there any more, or was not when it was planned."""

    code = "clip_gone"


def find(inputs: Sequence[str]) -> Found:
    """All clips, each once, in the order given.

    Args:
        inputs: What `ahse classify` takes; a file that ends in .csv, with a column `clip` of paths, relative
            to it, or URLs; and URLs of files, folders and patterns that fsspec can open.

    Raises:
        InvalidOptionError: A list has no such column, a URL can't be opened, a pattern matches nothing, a
            file can't be looked at now, or it is standard input.
    """
    clips: dict[str, ClipFile] = {}
    skipped: Counter[str] = Counter()
    found: Iterable[ClipFile]
    for word in inputs:
        if word == STDIN:
            raise InvalidOptionError("standard input can't be read again by workers; name a file")
        if "://" in word:
            found = _remote(word, skipped)
        elif word.lower().endswith(".csv"):
            found = map(_entry, _listed(Path(word)))
        else:
            of_word = find_clips([word])
            if [one.problem for one in of_word.clips] == [NO_MATCH]:
                raise _no_match(word)
            found = map(_absolute, of_word.clips)
            skipped += of_word.skipped
        for clip in found:
            clips.setdefault(clip.name, clip)
    if unavailable := [clip for clip in clips.values() if clip.code == ClipUnavailableError.code]:
        raise InvalidOptionError(
            f"{len(unavailable)} of {len(clips)} clips can't be planned, such as {unavailable[0].name}: "
            f"{unavailable[0].problem}; try again, or leave them out"
        )
    return Found(tuple(clips.values()), skipped)


def _no_match(word: str) -> InvalidOptionError:
    return InvalidOptionError(f"no file matches the pattern {word}; correct it, or leave it out")


def _absolute(clip: ClipFile) -> ClipFile:
    """Under its whole path, since workers may run in other folders, and read it from a text file."""
    path = clip.path.absolute()
    name = in_utf8(path)
    return replace(clip, name=name, path=path, problem=clip.problem if name == str(path) else _NOT_UTF8)


def _entry(entry: str) -> ClipFile:
    """The clip of one row, by the name as it is; a folder is none, and neither is a pattern."""
    if "://" not in entry:
        return _absolute(clip_at(Path(entry), Path(Path(entry).name)))
    system, path = _open_system(entry)
    try:
        facts = system.info(path)
    except Exception as error:
        if not _is_gone(entry, error):
            raise InvalidOptionError(f"{entry} can't be looked at") from error
        facts = {}
    clip = _object(entry, system, path, facts)
    return clip if facts.get("type") == "file" else replace(clip, problem="there is no such file")


def _listed(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened, restval="")
            if _COLUMN not in (rows.fieldnames or ()):
                raise InvalidOptionError(f"{file.name} has no column {_COLUMN!r} in its first row")
            for row in rows:
                entry = row[_COLUMN]
                if entry.strip():
                    yield entry if "://" in entry else str(file.parent / entry)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidOptionError(f"{file.name} is no CSV in UTF-8; save it as one") from error


def _remote(url: str, skipped: Counter[str]) -> Iterator[ClipFile]:
    """The objects that a URL stands for, in order of their names."""
    system, path = _open_system(url)
    # Over HTTP a query begins with the question mark.
    is_pattern = "*" in url.partition("?")[0] if url.startswith(_HTTP) else "*" in url or "?" in url
    try:
        is_folder = not is_pattern and system.isdir(path)
        if is_pattern:
            listed = system.glob(path, detail=True)
        else:
            listed = system.find(path, detail=True) if is_folder else {path: system.info(path)}
    except Exception as error:
        raise InvalidOptionError(f"{url} can't be listed") from error
    files = {name: facts for name, facts in listed.items() if facts.get("type") == "file"}
    if is_pattern and not files:
        raise _no_match(url)
    for name in sorted(files):
        kind = _kind_below(name.removeprefix(path)) if is_folder else "media"
        if kind == "media":
            yield _object(url, system, name, files[name])
        else:
            skipped[REASONS[kind]] += 1


def _kind_below(name: str) -> str:
    """What an object in a folder is, by its name below it: millions can't be looked into."""
    if any(part.startswith(".") for part in name.split("/")):
        return "hidden"
    # Names in stores of objects are often keys without an ending; those are tried.
    return kind_by_name(name) if PurePath(name).suffix else "media"


def _object(url: str, system: Any, name: str, facts: Mapping[str, Any]) -> ClipFile:
    """One of the objects that a URL stands for, under the URL by which workers find it again."""
    full = system.unstrip_protocol(name)
    if "::" in url or system._strip_protocol(full) != name:
        raise InvalidOptionError(f"{url} can't be planned: workers could not find {name} again")
    shown = in_utf8(full)
    return ClipFile(shown, Path(), Path(name), *_state(facts), problem="" if shown == full else _NOT_UTF8)


def _is_gone(url: str, error: Exception) -> bool:
    """Whether there is no such object. Over HTTP fsspec says so of all that goes wrong; the cause tells."""
    if not isinstance(error, FileNotFoundError):
        return False
    cause = error.__cause__
    return not url.startswith(_HTTP) or cause is None or getattr(cause, "status", None) in _NOT_FOUND


# What tells a change of an object, by the names that file systems have for it.
_MARKS = ("ETag", "etag", "LastModified", "mtime", "created")


def _state(facts: Mapping[str, Any], mark: str | None = None) -> tuple[int | None, str | None]:
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
    fsspec = _fsspec(url.partition("://")[0])
    try:
        system, path = fsspec.core.url_to_fs(url)
    except Exception as error:
        raise InvalidOptionError(
            f"{url} can't be opened; correct it, or install the package for its scheme"
        ) from error
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
        ClipUnavailableError: It can't be read now, or its volume is not mounted.
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
        raise _missing(clip.path) from error
    except OSError as error:
        raise ClipUnavailableError(_UNAVAILABLE) from error
    if not stat.S_ISREG(facts.st_mode):
        raise ClipGoneError(_GONE)
    _compare(clip, state_of(facts))


def _missing(path: Path) -> AhseError:
    """What to raise for a clip that is not there.

    Where a volume is not mounted its mount point is empty: all clips below would be lost for good.
    """
    try:
        has_others = any(path.parent.iterdir())
    except OSError:
        has_others = False
    return ClipGoneError(_GONE) if has_others else ClipUnavailableError(_NOT_MOUNTED)


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
        except Exception as error:
            if _is_gone(clip.name, error):
                is_local = clip.name.startswith(_LOCAL)
                raise (_missing(Path(path)) if is_local else ClipGoneError(_GONE)) from error
            raise ClipUnavailableError(_UNAVAILABLE) from error
        yield Path(f"/dev/fd/{copy.fileno()}")


def _compare(planned: ClipFile, now: tuple[int | None, str | None]) -> None:
    """By what was noted when the plan was made: listings of web servers have no sizes."""
    noted = planned.size_bytes, planned.modified
    if any(before not in (None, after) for before, after in zip(noted, now, strict=True)):
        raise ClipChangedError("the clip has changed since the plan was made; plan it anew")
