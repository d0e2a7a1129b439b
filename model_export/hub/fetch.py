"""One file of a hub repository, from the cache or downloaded, and checked by its hash and pin either way."""

from __future__ import annotations

import re
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
from model_export.hub.hashes import fits, is_hash, is_sha256, sha256_of
from model_export.hub.patience import patiently
from model_export.hub.refusals import refusal
from model_export.hub.transfer import transfer
from model_export.hub.wanted import Hub, Wanted

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class ModelFile:
    """A file on this machine that is what it should be.

    Attributes:
        path: In the cache: in the snapshot of its commit, under the name that it has in the repository.
        sha256: Of its content, hexadecimal.
        repo: The hub's repository that it is from; None for a file that the user gave.
        commit: The commit of the repository that it is from.
    """

    path: Path
    sha256: str
    repo: str | None = None
    commit: str | None = None


def fetch(wanted: Wanted, hub: Hub) -> ModelFile:
    """Have one file: that of the pinned commit, else the newest, else the one in the cache.

    What is in the cache of a commit is not asked for again.

    Raises:
        HubError: It can't be had, has another hash than the hub says (then it is removed from the cache), or
            is not the pinned one.
    """
    wanted = _pinned(wanted, hub)
    path = _settled(wanted, hub)
    if path is None:
        try:
            path = _from_hub(wanted, hub)
        except HFValidationError:
            raise HubError(
                f"{wanted.repo} is no file, no folder and no repository name (owner/name)"
            ) from None
        except (
            HfHubHTTPError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            httpx2.TransportError,
        ) as error:
            path = _from_cache(wanted, hub)
            if path is None:
                raise refusal(error, wanted, hub) from None
    _check(path)
    found = ModelFile(path, sha256_of(path), wanted.repo, path.parent.name)
    hub.pins.check(wanted.repo, path.name, found.sha256)
    return found


def _pinned(wanted: Wanted, hub: Hub) -> Wanted:
    """The revision that is pinned, and names that a hash is pinned of before others."""
    pin = hub.pins.of(wanted.repo)
    if pin is None:
        return replace(wanted, revision=wanted.revision or "main")
    files = tuple(sorted(wanted.files, key=lambda name: name not in pin.files))
    return replace(wanted, files=files, revision=wanted.revision or pin.revision)


def _settled(wanted: Wanted, hub: Hub) -> Path | None:
    """The first of the wanted files, if the cache has it of the wanted commit, which no other replaces."""
    if not _COMMIT.fullmatch(wanted.revision or ""):
        return None
    return _from_cache(replace(wanted, files=wanted.files[:1]), hub)


def _from_hub(wanted: Wanted, hub: Hub) -> Path:
    """The first of the wanted files that the repository has."""
    for name in wanted.files:
        try:
            return _newest(wanted, name, hub)
        except RemoteEntryNotFoundError:
            continue
    names = " or ".join(wanted.files)
    raise HubError(f"{wanted.repo} on {hub.endpoint} has no file {names}: give {wanted.option}")


def _newest(wanted: Wanted, name: str, hub: Hub) -> Path:
    """Ask what the file is, transfer it unless it is here, and let the library enter it in its cache."""
    url = hf_hub_url(wanted.repo, name, revision=wanted.revision, endpoint=hub.endpoint)
    ask = partial(get_hf_file_metadata, url, endpoint=hub.endpoint)
    said = ask() if _from_cache(wanted, hub) else patiently(ask, hub.sleep)
    if said.commit_hash is None or said.size is None or not is_hash(said.etag or ""):
        raise HubError(f"{hub.endpoint} does not say commit, size and hash like a hub: check HF_ENDPOINT")
    if is_sha256(said.etag or ""):  # of a large file: another one is not downloaded first
        hub.pins.check(wanted.repo, name, str(said.etag))
    blob = hub.cache / wanted.folder / "blobs" / str(said.etag)
    # On a disk without links the library keeps a file under its name only, so look for both.
    known = try_to_load_from_cache(wanted.repo, name, cache_dir=hub.cache, revision=said.commit_hash)
    if not isinstance(known, str) and not blob.exists():
        version = hf_hub_url(wanted.repo, name, revision=said.commit_hash, endpoint=hub.endpoint)
        transfer(version, blob, said.size, hub.cache / ".locks" / wanted.folder / f"{blob.name}.lock")
    path = hf_hub_download(
        wanted.repo, name, revision=wanted.revision, cache_dir=hub.cache, endpoint=hub.endpoint
    )
    return Path(path)


def _from_cache(wanted: Wanted, hub: Hub) -> Path | None:
    for name in wanted.files:
        path = try_to_load_from_cache(wanted.repo, name, cache_dir=hub.cache, revision=wanted.revision)
        if isinstance(path, str):
            return Path(path)
    return None


def _check(path: Path) -> None:
    """The cache names a file by its hash; a damaged one is removed, so that the next try starts clean."""
    blob = path.resolve()
    if is_hash(blob.name) and not fits(blob, blob.name):
        path.unlink()
        blob.unlink()
        raise HubError(f"{path} was damaged and has been removed from the cache: run the same command again")
