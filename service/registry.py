"""Loaded bundles, by name. One can be replaced while requests run on the one before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from service.bundle.directory import named_by_path, open_manifest, verify_files
from service.bundle.guarantees import Guarantees, load_guarantees
from service.bundle.head_specs import SimilaritySpec
from service.bundle.manifest import CARD_FILE, Manifest
from service.encode.encoders import Encoders, load_encoders
from service.errors import BundleInvalidError, UnknownBundleError
from service.head.ahse import AhseHead
from service.head.head import Head
from service.head.similarity import SimilarityHead
from service.process import return_freed_memory
from service.runtime.providers import Runtime


@dataclass(frozen=True)
class Bundle:
    """Everything that inference needs, read-only.

    Attributes:
        manifest: Every fact of the models.
        digest: Hex sha256 that changes with any byte of any file.
        encoders: The frozen encoders.
        head: What ranks by their features.
        card: Its model card, Markdown; None if it has none.
        guarantees: What can be guaranteed of its answers; None if nothing was measured.
    """

    manifest: Manifest
    digest: str
    encoders: Encoders
    head: Head[Any, Any]
    card: str | None = None
    guarantees: Guarantees | None = None

    @property
    def name(self) -> str:
        """The name by which requests choose the bundle."""
        return self.manifest.name

    @cached_property
    def encoders_digest(self) -> str:
        """What features depend on, besides what is encoded; see `Manifest.encoders_digest`."""
        return self.manifest.encoders_digest()


def load_bundle(directory: Path, runtime: Runtime) -> Bundle:
    """Read, verify and open a bundle.

    Raises:
        BundleInvalidError: A file is missing, changed, or is not what the manifest says.
        DeviceUnavailableError: The device asked for can't be used.
    """
    manifest, digest = open_manifest(directory)
    stamps = _stamps(directory, manifest)
    verify_files(directory, manifest)
    bundle = Bundle(
        manifest,
        digest,
        load_encoders(directory, manifest, runtime),
        _load_head(directory, manifest, runtime),
        _read_card(directory, manifest),
        None if manifest.head.guarantee is None else load_guarantees(directory / manifest.head.guarantee),
    )
    # Each file was opened again by its path: by then it may have been another, or that of another bundle.
    if _stamps(directory, manifest) != stamps or open_manifest(directory)[1] != digest:
        raise BundleInvalidError("its files were replaced while they were read; load it once more")
    return bundle


def _stamps(directory: Path, manifest: Manifest) -> list[tuple[int, int, int]]:
    """Size and times of each file, which change when it is written or replaced; of those that are there."""
    found = list[tuple[int, int, int]]()
    for name in manifest.files:
        with suppress(OSError):
            one = (directory / name).stat()
            found.append((one.st_size, one.st_mtime_ns, one.st_ctime_ns))
    return found


def _read_card(directory: Path, manifest: Manifest) -> str | None:
    has_one = CARD_FILE in manifest.files
    return (directory / CARD_FILE).read_text(encoding="utf-8", errors="replace") if has_one else None


def _load_head(directory: Path, manifest: Manifest, runtime: Runtime) -> Head[Any, Any]:
    spec = manifest.head
    if isinstance(spec, SimilaritySpec):
        return SimilarityHead.load(directory, spec, manifest)
    # So small that a way to a GPU and back would take longer than its work.
    return AhseHead.load(directory, spec, manifest, replace(runtime, device="cpu"))


class Registry:
    """Bundles by name, the first one the default. A reader keeps the Bundle value it got.

    Args:
        directories: One bundle each.
        runtime: How their graphs run.
        wrap: What is put around the encoders of each loaded bundle before it serves.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        runtime: Runtime,
        wrap: Callable[[Encoders], Encoders] = lambda e: e,
    ) -> None:
        self._runtime = runtime
        self._wrap = wrap
        self._lock = threading.Lock()
        self._directories: dict[str, Path] = {}
        self._bundles: dict[str, Bundle] = {}
        for directory in directories:
            with named_by_path(directory):
                bundle = self._load(directory)
            if bundle.name in self._bundles:
                raise BundleInvalidError(f"two bundles are named {bundle.name}; rename one in its manifest")
            self._directories[bundle.name] = directory
            self._bundles[bundle.name] = bundle

    def names(self) -> list[str]:
        """Names in the order of the settings, the default first."""
        return list(self._bundles)

    def get(self, name: str | None = None) -> Bundle:
        """The bundle of that name, or the default one.

        Raises:
            UnknownBundleError: No bundle of that name is loaded.
        """
        if name is None:
            return next(iter(self._bundles.values()))
        try:
            return self._bundles[name]
        except KeyError:
            known = ", ".join(self._bundles)
            raise UnknownBundleError(f"no bundle is named {name[:80]!r}; loaded are: {known}") from None

    def reload(self, name: str) -> Bundle:
        """Read the bundle's directory again and put the new one in its place; the old one stays on failure.

        Raises:
            UnknownBundleError: No bundle of that name is loaded.
            BundleInvalidError: What is in the directory now is damaged or has another name.
            DeviceUnavailableError: The device cannot run it.
        """
        self.get(name)
        with self._lock:
            try:
                bundle = self._load(self._directories[name])
            except BundleInvalidError as error:
                raise BundleInvalidError(f"bundle {name}: {error}") from error
            if bundle.name != name:
                raise BundleInvalidError(f"the directory of bundle {name} now holds one named {bundle.name}")
            self._bundles[name] = bundle
            # Requests may hold the old one for a while yet; then the next reload returns its pages.
            return_freed_memory()
        return bundle

    def _load(self, directory: Path) -> Bundle:
        bundle = load_bundle(directory, self._runtime)
        return replace(bundle, encoders=self._wrap(bundle.encoders))
