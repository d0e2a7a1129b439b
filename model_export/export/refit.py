"""A bundle with other statistics for its similarity head, everything else as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

from model_export.export.heads import STATISTICS_FILE
from service.bundle.directory import write_bundle
from service.bundle.manifest import Manifest, SimilaritySpec
from service.head.statistics import SimilarityStatistics


def write_refitted(
    source: Path,
    manifest: Manifest,
    out: Path,
    head: SimilaritySpec,
    statistics: SimilarityStatistics,
    command: str,
) -> None:
    """Write a bundle anew; where it stands already, it is replaced when the new one is whole.

    Args:
        source: directory of the bundle as it was.
        manifest: its manifest.
        out: where the new one shall stand; may be `source`.
        head: the manifest's new part.
        statistics: of the clips.
        command: that was run, for the manifest.
    """

    def fill(aside: Path) -> None:
        for name in manifest.files:
            shutil.copyfile(source / name, aside / name)
        with (aside / "MODEL_CARD.md").open("a", encoding="utf-8") as card:
            card.write(f"\n`{command}` was run afterwards: figures above are from before it.\n")
        statistics.save(aside / STATISTICS_FILE)

    provenance = manifest.provenance.model_copy(
        update={"command": f"{manifest.provenance.command}; {command}"}
    )
    # What was measured was measured of another ranking.
    update = {"head": head, "provenance": provenance, "metrics": ()}
    write_bundle(out, fill, lambda files: manifest.model_copy(update={**update, "files": files}))
