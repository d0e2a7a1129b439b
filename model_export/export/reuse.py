"""The encoders of a bundle, taken over byte for byte, for another head to stand beside them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Final

from model_export.export.bundle import EncoderParts
from service.bundle.directory import read_manifest, verify_files
from service.bundle.manifest import Manifest
from service.bundle.provenance import GraphCheck, Licence

# What must go wherever the encoders go.
_NOTICES: Final = ("LICENSES", "NOTICE")

HEAD: Final = "head"
"""What the licence of a head is filed under; the encoders' licences have any other name."""


def encoders_of(directory: Path) -> tuple[Manifest, EncoderParts]:
    """The manifest of a bundle, and its encoders as parts of another: towers, files, checks, origins.

    Raises:
        BundleInvalidError: it is no bundle, or a file is missing or changed.
    """
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    licences = tuple(one for one in manifest.licences if one.part != HEAD)
    copy, sources = partial(_copy, directory, manifest), manifest.provenance.sources
    return manifest, EncoderParts(
        manifest.visual,
        manifest.audio,
        copy,
        licences,
        sources,
        manifest.known_names,
        {name: (directory / name).read_text(encoding="utf-8") for name in _NOTICES if name in manifest.files},
    )


def head_licence(licence: str, data: str) -> Licence:
    """The licence of a head that was trained on some data."""
    return Licence(part=HEAD, licence=licence, source=f"trained on {data}")


def _copy(directory: Path, manifest: Manifest, aside: Path) -> dict[str, GraphCheck]:
    """Copy the encoders' files; what was measured of them when they were exported holds for the copies."""
    for name in manifest.encoder_files():
        shutil.copyfile(directory / name, aside / name)
    checks = manifest.provenance.parity
    return {part: check for part, check in checks.items() if not part.startswith(f"{HEAD}_")}
