"""One file of a hub repository, from the cache or downloaded, and checked by its hash either way."""

from __future__ import annotations

from dataclasses import dataclass
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

from model_export.hub.errors import HubError
from model_export.hub.hashes import fits, is_hash, sha256_of
from model_export.hub.refusals import refusal
from model_export.hub.transfer import transfer
from model_export.hub.wanted import Hub, Wanted


@dataclass(frozen=True)
class HubFile:
    """A file in the cache that is what the hub says.

    Attributes:
        path: In the snapshot of its commit, under the name that it has in the repository.
        sha256: Of its content, hexadecimal.
        commit: The commit of the repository that it is from.
    """

    path: Path
    sha256: str
    commit: str


def fetch(wanted: Wanted, hub: Hub) -> HubFile:
    """Have one file: the newest where the hub gives it, else the one in the cache.

    Raises:
        HubError: It can't be had, or has another hash than the hub says; then it is removed from the cache.
    """
    try:
        path = _from_hub(wanted, hub)
    except HFValidationError:
        raise HubError(f"{wanted.repo} is no file, no folder and no repository name (owner/name)") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.TransportError) as error:
        cached = _from_cache(wanted, hub)
        if cached is None:
            raise refusal(error, wanted, hub) from None
        path = cached
    _check(path)
    return HubFile(path, sha256_of(path), path.parent.name)


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
    said = get_hf_file_metadata(url, endpoint=hub.endpoint)
    if said.commit_hash is None or said.size is None or not is_hash(said.etag or ""):
        raise HubError(f"{hub.endpoint} does not say commit, size and hash like a hub: check HF_ENDPOINT")
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
