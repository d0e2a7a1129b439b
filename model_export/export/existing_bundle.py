"""New bundles from an existing one: its encoders beside another head, or other statistics of its own head."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Final

from model_export.export.bundle_parts import EncoderParts
from model_export.export.head_parts import STATISTICS_FILE
from service.bundle.directory import read_manifest, verify_files, write_bundle
from service.bundle.head_specs import SimilaritySpec
from service.bundle.manifest import Manifest
from service.bundle.provenance import GraphCheck, Licence
from service.head.statistics import SimilarityStatistics

# Files that must go wherever the encoders go.
_NOTICES: Final = ("LICENSES", "NOTICE")

HEAD: Final = "head"
"""The part that the licence of a head names; the encoders' licences name other parts."""


def encoders_of(directory: Path) -> tuple[Manifest, EncoderParts]:
    """The manifest of a bundle, and its encoders as parts of another, byte for byte.

    Raises:
        BundleInvalidError: The directory is no bundle, or a file is missing or changed.
    """
    manifest = read_manifest(directory)
    verify_files(directory, manifest)
    licences = tuple(one for one in manifest.licences if one.part != HEAD)
    copy, made = partial(_copy, directory, manifest), manifest.provenance
    return manifest, EncoderParts(
        manifest.visual,
        manifest.audio,
        copy,
        licences,
        made.sources,
        manifest.known_names,
        {name: (directory / name).read_text(encoding="utf-8") for name in _NOTICES if name in manifest.files},
        made.versions,
    )


def head_licence(licence: str, data: str) -> Licence:
    """The licence of a head that was trained on some data."""
    return Licence(part=HEAD, licence=licence, source=f"trained on {data}")


def _copy(directory: Path, manifest: Manifest, aside: Path) -> dict[str, GraphCheck]:
    """Copy the encoders' files; the checks of their export hold for the copies."""
    for name in manifest.encoder_files():
        shutil.copyfile(directory / name, aside / name)
    checks = manifest.provenance.parity
    return {part: check for part, check in checks.items() if not part.startswith(f"{HEAD}_")}


def write_refitted(
    source: Path,
    manifest: Manifest,
    out: Path,
    head: SimilaritySpec,
    statistics: SimilarityStatistics,
    command: str,
) -> None:
    """Write a bundle with other statistics of its similarity head; a bundle at `out` is replaced at the end.

    Args:
        source: Directory of the bundle.
        manifest: Its manifest.
        out: Directory of the new bundle; may be `source`.
        head: Manifest of the head with the new statistics.
        statistics: Statistics of the clips.
        command: The command that was run, for the manifest.
    """

    def fill(aside: Path) -> None:
        for name in manifest.files.keys() - {manifest.head.guarantee}:  # which was of the old statistics
            shutil.copyfile(source / name, aside / name)
        with (aside / "MODEL_CARD.md").open("a", encoding="utf-8") as card:
            card.write(f"\n`{command}` was run afterwards: figures above are from before it.\n")
        statistics.save(aside / STATISTICS_FILE)

    provenance = manifest.provenance.model_copy(
        update={"command": f"{manifest.provenance.command}; {command}"}
    )
    # The metrics are those of the ranking before.
    update = {"head": head, "provenance": provenance, "metrics": ()}
    write_bundle(out, fill, lambda files: manifest.model_copy(update={**update, "files": files}))
