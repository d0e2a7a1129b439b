"""One file of a hub repository, downloaded or from the cache, and verified by its hash and pin either way.

Downloads are those of `hf_hub_download`, which continues after a dropped connection within one call and keeps
no part of a file when it fails. It compares sizes; hashes are compared here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx2
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
)

from model_export.errors import HubError
from model_export.hub.hub_requests import Hub, Wanted, refusal, with_retries

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT = re.compile(r"[0-9a-f]{40}")
# How the library says that the hub gives no file; `fetch` looks into the cache then.
_NOT_GIVEN = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled)


@dataclass(frozen=True)
class ModelFile:
    """A verified file on this machine.

    Attributes:
        path: In the cache: in the snapshot of its commit, under the name that it has in the repository.
        sha256: Of its content, hexadecimal.
        repo: The hub repository that it is from; None for a file that the user gave.
        commit: The commit of the repository that it is from.
    """

    path: Path
    sha256: str
    repo: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class _Located:
    """A file in the cache that is not verified yet.

    Attributes:
        path: Of the file.
        etag: The hash that it must have; None where neither the hub nor the cache tells.
        is_new: Whether it was downloaded just now.
    """

    path: Path
    etag: str | None
    is_new: bool = False


def fetch(wanted: Wanted, hub: Hub) -> ModelFile:
    """Obtain one file: of the pinned commit, else the newest, else the one in the cache.

    The hub is not asked about a file of a commit that is in the cache.

    Raises:
        HubError: It can't be obtained, has another hash than the hub states (then it is removed from the
            cache), or is not the pinned one.
    """
    wanted = _pinned(wanted, hub)
    located = _of_commit(wanted, hub)
    if located is None:
        try:
            located = _from_hub(wanted, hub)
        except HFValidationError:
            raise HubError(
                f"{wanted.repo} is no file, no folder and no repository name (owner/name)"
            ) from None
        except (*_NOT_GIVEN, httpx2.TransportError) as error:
            located = _from_cache(wanted, hub)
            if located is None:
                raise refusal(error, wanted, hub) from None
    sha256 = _verify(located)
    hub.pins.check(wanted.repo, located.path.name, sha256)
    return ModelFile(located.path, sha256, wanted.repo, located.path.parent.name)


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_hash_of(path: Path) -> str:
    """The hash by which git stores the file, in lower-case hexadecimal digits; for small files."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def is_sha256(etag: str) -> bool:
    """Whether the hub's ETag is the SHA-256 of a large file."""
    return bool(_SHA256.fullmatch(etag))


def is_hash(etag: str) -> bool:
    """Whether the hub's ETag states the content: a SHA-256 (large files) or git's hash (small files)."""
    return is_sha256(etag) or bool(_GIT.fullmatch(etag))


def _pinned(wanted: Wanted, hub: Hub) -> Wanted:
    """The same file at the pinned revision, names with a pinned hash before others."""
    pin = hub.pins.of(wanted.repo)
    if pin is None:
        return replace(wanted, revision=wanted.revision or "main")
    files = tuple(sorted(wanted.files, key=lambda name: name not in pin.files))
    return replace(wanted, files=files, revision=wanted.revision or pin.revision)


def _of_commit(wanted: Wanted, hub: Hub) -> _Located | None:
    """The preferred file from the cache, where the revision is a commit: its files never change."""
    if not _GIT.fullmatch(wanted.revision or ""):
        return None
    return _from_cache(replace(wanted, files=wanted.files[:1]), hub)


def _from_hub(wanted: Wanted, hub: Hub) -> _Located:
    """The first of the wanted files that the repository has."""
    for name in wanted.files:
        try:
            return _newest(wanted, name, hub)
        except RemoteEntryNotFoundError:
            continue
    names = " or ".join(wanted.files)
    raise HubError(f"{wanted.repo} on {hub.endpoint} has no file {names}: give {wanted.option}")


def _newest(wanted: Wanted, name: str, hub: Hub) -> _Located:
    """Ask the hub for the file's commit, size and hash, and download it unless the cache has it."""
    url = hf_hub_url(wanted.repo, name, revision=wanted.revision, endpoint=hub.endpoint)
    ask = partial(get_hf_file_metadata, url, endpoint=hub.endpoint)
    facts = ask() if _from_cache(wanted, hub) else with_retries(ask, hub.sleep)
    etag = facts.etag or ""
    if facts.commit_hash is None or facts.size is None or not is_hash(etag):
        raise HubError(f"{hub.endpoint} does not say commit, size and hash like a hub: check HF_ENDPOINT")
    if is_sha256(etag):  # a file that is not the pinned one is refused before its download
        hub.pins.check(wanted.repo, name, etag)
    # On a disk without links the library keeps a file under its name only, so look for both.
    known = try_to_load_from_cache(wanted.repo, name, cache_dir=hub.cache, revision=facts.commit_hash)
    is_new = not isinstance(known, str) and not (hub.cache / wanted.folder / "blobs" / etag).exists()
    if is_new:
        _check_free_space(hub.cache, facts.size)
    return _Located(_download(wanted, name, facts.size, hub), etag, is_new)


def _download(wanted: Wanted, name: str, n_bytes: int, hub: Hub) -> Path:
    """The file in the cache, downloaded unless it is there."""
    download = f"the download of {name} of {wanted.repo} ({n_bytes / 1e6:.1f} MB) from {hub.endpoint}"
    again = "run the same command again, with HF_HUB_DISABLE_XET=1 if that does not help"
    try:
        path = hf_hub_download(
            wanted.repo, name, revision=wanted.revision, cache_dir=hub.cache, endpoint=hub.endpoint
        )
    except _NOT_GIVEN:
        raise
    # hf_xet, by which large files come, raises errors of Python itself.
    except (httpx2.TransportError, ConnectionError, TimeoutError):
        raise HubError(f"the connection was lost during {download}: {again}") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise HubError(f"{download} failed ({reason}): {again}") from None
    return Path(path)


def _from_cache(wanted: Wanted, hub: Hub) -> _Located | None:
    for name in wanted.files:
        found = try_to_load_from_cache(wanted.repo, name, cache_dir=hub.cache, revision=wanted.revision)
        if isinstance(found, str):
            path = Path(found)
            # The first link says the ETag; behind it may be another, to content that repositories share.
            etag = path.readlink().name if path.is_symlink() else ""
            return _Located(path, etag if is_hash(etag) else None)
    return None


def _verify(located: _Located) -> str:
    """Compare a file with its hash and return its SHA-256; a wrong file is removed from the cache.

    Raises:
        HubError: It has another hash than it must have.
    """
    path, etag = located.path, located.etag
    sha256 = sha256_of(path)
    if etag is None or etag == (sha256 if is_sha256(etag) else git_hash_of(path)):
        return sha256
    _remove(path)
    if located.is_new:
        raise HubError(
            f"{path.name} arrived with another hash than the hub says and has been removed: try again, and "
            "if the result is the same, ask whoever runs the mirror or proxy in between"
        )
    raise HubError(f"{path} was damaged and has been removed from the cache: run the same command again")


def _remove(path: Path) -> None:
    """Remove a file of the cache, and what its links lead to.

    Content that repositories share is removed for all of them: otherwise the next download would link to it.
    """
    while path.is_symlink():
        target = path.parent / path.readlink()
        path.unlink()
        path = target
    path.unlink(missing_ok=True)


def _check_free_space(folder: Path, n_bytes: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise HubError(
            f"{n_bytes / 1e6:.1f} MB are to be downloaded, but only {free / 1e6:.1f} MB are free in "
            f"{folder}: free some space or set HF_HUB_CACHE to a folder on a larger disk"
        )
