"""Bring one file's bytes into the cache: resumed where the last try ended, shown to others only when right.

The transfer is plain HTTP through huggingface_hub's own `http_get`, which shows progress and goes on after a
dropped connection. `hf_hub_download` (2.4), with or without Xet, writes to a new temporary file each time and
would begin a checkpoint of 2 GB anew after a killed process.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx2
from huggingface_hub.file_download import http_get

# Documented, but behind a lazy import that mypy does not see through.
from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

from model_export.errors import HubError
from model_export.hub.hashes import fits


def transfer(url: str, blob: Path, size_bytes: int, lock: Path) -> None:
    """Download a file to its place in the cache, which is named by its hash.

    Args:
        url: Address of one immutable version of the file.
        blob: Where it belongs; its name is the hub's hash of the content.
        size_bytes: Size that the hub says.
        lock: Lock file against a second process that wants the same file.

    Raises:
        HubError: The connection was lost, the disk has no room, or the content has another hash.
    """
    blob.parent.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    partial = blob.with_name(f"{blob.name}.incomplete")
    with WeakFileLock(lock):
        if blob.exists():  # another process was faster
            return
        _receive(url, partial, size_bytes)
        if not fits(partial, blob.name):
            partial.unlink()
            raise HubError(
                f"{url} arrived with another hash than the hub says and was thrown away: try again, and if "
                "it ends the same way, ask whoever runs the mirror or proxy in between"
            )
        partial.replace(blob)


def _receive(url: str, partial: Path, size_bytes: int) -> None:
    """Append what is still missing of the file."""
    partial.touch()
    done = partial.stat().st_size
    if done > size_bytes:  # two processes wrote, on a disk whose locks don't hold
        partial.write_bytes(b"")
        done = 0
    if done == size_bytes:
        return
    _make_sure_of_room(partial.parent, size_bytes - done)
    # Without compression, so that an offset means the same to both sides.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    try:
        with partial.open("ab") as file:
            http_get(url, file, resume_size=done, headers=headers, displayed_filename=url.rsplit("/", 1)[-1])
    except httpx2.TransportError:
        raise HubError(
            f"the connection was lost after {_mb(partial.stat().st_size)} of {_mb(size_bytes)} of {url}: run "
            "the same command again, it goes on from there"
        ) from None


def _make_sure_of_room(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise HubError(
            f"{_mb(n_bytes)} are still to be downloaded, but only {_mb(free)} are free in {folder}: "
            "make room or set HF_HUB_CACHE to a folder on a larger disk"
        )


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB"
