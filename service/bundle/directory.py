"""The directory of a bundle: read and check its manifest, verify its files, write it. No model is loaded."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from service import __version__
from service.bundle.manifest import FORMAT_VERSION, MANIFEST_FILE, Manifest
from service.errors import BundleInvalidError
from service.faults import describe_faults

_MAX_MANIFEST_BYTES = 64 * 2**20


def read_manifest(directory: Path) -> Manifest:
    """Read manifest.json and check it against the schema and the version of this service.

    Raises:
        BundleInvalidError: There is no manifest, it has another format, or it needs a newer service.
    """
    return open_manifest(directory)[0]


def open_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest and the digest of the bundle.

    The digest is the sha256 of manifest.json, which in turn holds the sha256 of every other file.

    Raises:
        BundleInvalidError: As `read_manifest`.
    """
    raw = _read_bytes(directory)
    return _parse(raw), hashlib.sha256(raw).hexdigest()


@contextmanager
def named_by_path(directory: Path) -> Iterator[None]:
    """Name the directory in errors, for whoever has chosen it; clients of the service may not read paths."""
    try:
        yield
    except BundleInvalidError as error:
        raise BundleInvalidError(f"bundle {directory.resolve()}: {error}") from error


def _parse(raw: bytes) -> Manifest:
    document = _parse_document(raw)
    _check_versions(document)
    try:
        manifest = Manifest.model_validate(document)
    except ValidationError as error:
        raise BundleInvalidError(
            f"{MANIFEST_FILE}: {describe_faults(error.errors(), 'the manifest')}"
        ) from None
    missing = manifest.named_files() - manifest.files.keys()
    if missing:
        raise BundleInvalidError(f"{MANIFEST_FILE} names {sorted(missing)} but gives no sha256 for them")
    return manifest


def verify_files(directory: Path, manifest: Manifest) -> None:
    """Compare every file with its sha256 in the manifest.

    Raises:
        BundleInvalidError: Files are missing or changed; the message names all of them.
    """
    problems = []
    for name, expected in sorted(manifest.files.items()):
        path = directory / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif file_sha256(path) != expected:
            problems.append(f"{name} is not the file that was published (its sha256 differs)")
    if problems:
        raise BundleInvalidError("; ".join(problems))


def write_bundle(
    directory: Path, fill: Callable[[Path], None], manifest: Callable[[dict[str, str]], Manifest]
) -> None:
    """Write a bundle to a temporary directory and rename it when complete, so that no partial one appears.

    Args:
        directory: Where to put the bundle. An existing bundle is replaced at the very end.
        fill: Writes all files except the manifest to the directory that it is given.
        manifest: Makes the manifest from {file name: sha256}.
    """
    directory = directory.resolve()  # `.` has no name to rename
    directory.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        fill(aside)
        hashes = {path.name: file_sha256(path) for path in sorted(aside.iterdir())}
        text = manifest(hashes).model_dump_json(indent=2)
        (aside / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")
        verify_files(aside, read_manifest(aside))
        aside.chmod(0o755)
        for path in aside.iterdir():
            path.chmod(0o644)  # safetensors writes 0600, but the service may run as another user
        _replace(directory, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_bytes(directory: Path) -> bytes:
    path = directory / MANIFEST_FILE
    if not path.is_file():
        missing = MANIFEST_FILE if directory.is_dir() else "such folder"
        raise BundleInvalidError(f"there is no {missing}; a bundle is a directory written by `ahse export`")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise BundleInvalidError(f"{MANIFEST_FILE} is larger than {_MAX_MANIFEST_BYTES} bytes")
    return path.read_bytes()


def _parse_document(raw: bytes) -> dict[str, object]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleInvalidError(f"{MANIFEST_FILE} is not JSON") from error
    if not isinstance(document, dict):
        raise BundleInvalidError(f"{MANIFEST_FILE} is not a JSON object")
    return document


def _check_versions(document: dict[str, object]) -> None:
    """Check versions before fields: a newer format must be reported as such, not as unknown fields."""
    found = document.get("format_version")
    if found != FORMAT_VERSION:
        raise BundleInvalidError(f"its format version is {found!r}; this service reads {FORMAT_VERSION}")
    needed = document.get("requires_service")
    if isinstance(needed, str) and _version_key(needed) > _version_key(__version__):
        raise BundleInvalidError(f"it needs service {needed} or newer; this is {__version__}")


def _version_key(version: str) -> tuple[int, ...]:
    # Not `isdigit`, which takes digits such as ² that are no numbers. Nine digits make any version.
    return tuple(int(part) for part in version.split(".") if re.fullmatch("[0-9]{1,9}", part))


def _replace(target: Path, source: Path) -> None:
    """Rename source to target. An existing target is moved away first and deleted last.

    A directory that is not empty can't be replaced by one rename, so the target is missing for a moment; it
    is moved back if the second rename fails.
    """
    if not target.exists():
        source.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / target.name)
    try:
        source.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
