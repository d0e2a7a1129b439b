"""The loaded bundles by name. One can be replaced while requests run on the one before it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from service.bundle.bundle import Bundle, load_bundle
from service.bundle.providers import Runtime
from service.errors import BundleInvalidError, UnknownBundleError


class Registry:
    """Bundles by name, the first one the default. A reader keeps the Bundle value it got.

    Args:
        directories: one bundle each.
        runtime: how their graphs run.
        prepare: what is done to each loaded bundle before it serves.
    """

    def __init__(
        self, directories: Sequence[Path], runtime: Runtime, prepare: Callable[[Bundle], Bundle] = lambda b: b
    ) -> None:
        self._runtime = runtime
        self._prepare = prepare
        self._lock = threading.Lock()
        self._directories: dict[str, Path] = {}
        self._bundles: dict[str, Bundle] = {}
        for directory in directories:
            bundle = prepare(_load(directory, runtime))
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
            UnknownBundleError: no bundle of that name is loaded.
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
            UnknownBundleError: no bundle of that name is loaded.
            BundleInvalidError: what stands in the directory now is damaged or has another name.
        """
        self.get(name)
        with self._lock:
            bundle = _load(self._directories[name], self._runtime)
            if bundle.name != name:
                raise BundleInvalidError(f"the directory of bundle {name} now holds one named {bundle.name}")
            bundle = self._bundles[name] = self._prepare(bundle)
        return bundle


def _load(directory: Path, runtime: Runtime) -> Bundle:
    try:
        return load_bundle(directory, runtime)
    except BundleInvalidError as error:
        raise BundleInvalidError(f"bundle {directory.name}: {error}") from error
