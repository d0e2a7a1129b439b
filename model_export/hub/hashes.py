"""Hashes of files: what identifies a checkpoint, and what the hub says that a file must have."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from huggingface_hub.utils.sha import git_hash

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT = re.compile(r"[0-9a-f]{40}")


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_sha256(etag: str) -> bool:
    """Whether the hub's ETag is the SHA-256 of a large file."""
    return bool(_SHA256.fullmatch(etag))


def is_hash(etag: str) -> bool:
    """Whether the hub's ETag says what the file must contain: a SHA-256 (LFS) or git's hash (small files)."""
    return is_sha256(etag) or bool(_GIT.fullmatch(etag))


def fits(path: Path, etag: str) -> bool:
    """Whether the file is the one that the hub's ETag stands for."""
    # A file kept in git itself is small: a tokenizer or a configuration.
    found = sha256_of(path) if is_sha256(etag) else git_hash(path.read_bytes())
    return found == etag
