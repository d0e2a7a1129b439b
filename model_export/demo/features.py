"""The head's data: the demo world's clips and class names, encoded by a bundle as serving encodes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from model_export.data.feature_file import read_feature_file, write_feature_file
from model_export.data.gzsl_data import GzslData
from model_export.demo.folders import record_dataset
from model_export.demo.world import World
from model_export.errors import DatasetError, Problem
from model_export.extract.extraction import Extracted, Journal, extract_clips
from model_export.extract.feature_set import assemble, split_clips
from model_export.extract.listing import list_clips
from service.decode import DecodePool
from service.media import DecodeLimits
from service.process import n_processors
from service.registry import load_bundle
from service.runtime.providers import Runtime

Progress = Callable[[str], None]

_TOLD_EVERY = 500


def demo_features(
    encoders: Path, clips: Path, file: Path, seed: int, progress: Progress, world: World | None = None
) -> GzslData:
    """Record the head's clips where they are missing and extract their features, as `ahse extract` does.

    Args:
        encoders: Bundle whose encoders make the features.
        clips: Folder of the clips.
        file: Feature file; read where it is there, else written.
        seed: Of the clips.
        progress: Told what is going on, a line at a time.
        world: Smaller ones are for tests.

    Raises:
        DatasetError: the file is damaged, or a clip can't be used.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        _extract(encoders, record_dataset(clips, seed, progress, world), file, seed, progress)
    return read_feature_file(file).data


def _extract(encoders: Path, source: Path, file: Path, seed: int, progress: Progress) -> None:
    listing, bundle, n_decoders = (
        list_clips(source),
        load_bundle(encoders, Runtime(device="cpu")),
        n_processors(),
    )

    def tell(n_done: int, n_clips: int) -> None:
        if n_done % _TOLD_EVERY == 0 or n_done == n_clips:
            progress(f"encoded clips: {n_done} of {n_clips}")

    with (
        Journal(file.with_name(f"{file.name}.journal"), bundle.manifest.encoders_digest()) as journal,
        DecodePool(DecodeLimits(), n_decoders) as pool,
    ):
        found = extract_clips(listing, bundle, pool.decode, journal, n_decoders, tell)
        _check(source, found)
        splits = split_clips(source, found.clips, seed, ())
        write_feature_file(file, assemble(found, splits, bundle, "demo"))
        journal.remove()


def _check(source: Path, found: Extracted) -> None:
    """Every clip of the demo world counts."""
    if found.failed:
        raise DatasetError(source, [Problem(one.clip.name, one.message) for one in found.failed])
