"""Build the demo bundle: everything from nothing, or a head beside encoders that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from demo_world.clip_folders import record_dataset, write_examples
from demo_world.encoders import SIZES_FILE, load_encoders
from demo_world.evaluate import DemoScores, evaluate_demo, metrics, model_card
from demo_world.training import train_encoders
from demo_world.work_folder import claim
from demo_world.world import World
from model_export.data.feature_file import read_feature_file, write_feature_file
from model_export.data.gzsl_data import GzslData
from model_export.encoders.custom import write_custom
from model_export.errors import DatasetError, Problem
from model_export.export.bundle_parts import BundleFacts, export_bundle
from model_export.export.existing_bundle import encoders_of
from model_export.export.head_parts import trained_head
from model_export.extract.extraction import Journal, extract_clips
from model_export.extract.feature_set import assemble, split_clips
from model_export.extract.listing import list_clips
from model_export.head.evaluation import evaluate, predict
from model_export.head.head_config import PRESETS
from model_export.head.run_folder import Run
from model_export.head.training import train
from model_export.progress import Progress
from service.bundle.directory import read_manifest
from service.decode import DecodePool
from service.media import DecodeLimits
from service.process import n_processors
from service.registry import load_bundle
from service.runtime.providers import Runtime

COMMAND = "python -m demo_world build"
_TOLD_EVERY = 500


def build_demo(work: Path, out: Path, examples: Path, seed: int, progress: Progress) -> DemoScores:
    """Build encoders, head and example clips; what an interrupted build has finished is kept.

    Args:
        work: For everything made on the way; several hundred megabytes of clips.
        out: Directory of the bundle.
        examples: Folder of the example clips.
        seed: Decides everything random.
        progress: Called with one line of what was done.

    Raises:
        OtherBuildError: The work folder is not for clips of this world and seed.
    """
    claim(work, seed, World())
    encoders = encoders_bundle(work, seed, progress)
    scores = build_head(encoders, work, out, seed, progress, f"{COMMAND} --seed {seed}")
    write_examples(World(), seed, examples)
    return scores


def rebuild_head(work: Path, out: Path, seed: int, progress: Progress) -> DemoScores:
    """Build the head of a bundle again; its encoders and the examples stay as they are.

    Args:
        work: For everything made on the way.
        out: A demo bundle; the new one takes its place.
        seed: Of the clips and the head.
        progress: Called with one line of what was done.

    Raises:
        BundleInvalidError: There is no whole bundle in `out`.
        OtherBuildError: The work folder is not for clips of this world and seed.
    """
    encoders_of(out)  # before the work: what is no bundle can't keep its encoders
    claim(work, seed, World())
    return build_head(out, work, out, seed, progress, f"{COMMAND} --keep-encoders --seed {seed}")


def encoders_bundle(work: Path, seed: int, progress: Progress) -> Path:
    """A bundle of encoders trained from nothing, so that features are made as serving makes them."""
    bundle, trained = work / "encoders_bundle", work / "encoders"
    if not bundle.is_dir():
        is_done = (trained / SIZES_FILE).is_file()  # it is written last
        encoders = load_encoders(trained) if is_done else train_encoders(work, seed, progress)
        write_custom(
            bundle, replace(encoders, seed=seed), "demo-encoders", f"{COMMAND} --seed {seed}", progress
        )
    return bundle


def build_head(
    encoders: Path, work: Path, out: Path, seed: int, progress: Progress, command: str
) -> DemoScores:
    """Record clips, extract features, train the head, measure it and write the bundle.

    Args:
        encoders: Bundle whose encoders are taken over; may be `out`.
        work: Clips are kept in it, and features and the run by the encoders' digest.
        out: Directory of the bundle.
        seed: Of clips and head.
        progress: Called with one line of what was done.
        command: That makes the bundle, for the manifest.
    """
    own = work / read_manifest(encoders).encoders_digest()[:12]
    data = demo_features(encoders, work / "clips", own / "features.safetensors", seed, progress)
    # One thread: another number would round otherwise, and a busy or small machine would wait for the second.
    run = train(data, PRESETS["ahse"].model_copy(update={"seed": seed}), own / "run", n_threads=1)
    measure = partial(evaluate_demo, work=work, seed=seed, progress=progress)
    return bundle_demo(encoders, run, data, measure, out, command)


def demo_features(
    encoders: Path, clips: Path, file: Path, seed: int, progress: Progress, world: World | None = None
) -> GzslData:
    """Record the head's clips where they are missing and extract their features, as `ahse extract` does.

    Args:
        encoders: Bundle whose encoders make the features.
        clips: Folder of the clips.
        file: Feature file; read where it is there, else written.
        seed: Of the clips.
        progress: Called with one line of what was done.
        world: Smaller ones are for tests.

    Raises:
        DatasetError: The file is damaged, or a clip can't be used.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        _extract(encoders, record_dataset(clips, seed, progress, world), file, seed, progress)
    return read_feature_file(file).data


def _extract(encoders: Path, source: Path, file: Path, seed: int, progress: Progress) -> None:
    listing, bundle = list_clips(source), load_bundle(encoders, Runtime(device="cpu"))
    n_decoders = n_processors()

    def tell(n_done: int, n_clips: int) -> None:
        if n_done % _TOLD_EVERY == 0 or n_done == n_clips:
            progress(f"encoded clips: {n_done} of {n_clips}")

    with (
        Journal(file.with_name(f"{file.name}.journal"), bundle.manifest.encoders_digest()) as journal,
        DecodePool(DecodeLimits(), n_decoders) as pool,
    ):
        found = extract_clips(listing, bundle, pool.decode, journal, n_decoders, tell)
        if found.failed:  # every clip of the demo world counts
            raise DatasetError(source, [Problem(one.clip.name, one.message) for one in found.failed])
        splits = split_clips(source, found.clips, seed, ())
        write_feature_file(file, assemble(found, splits, bundle, "demo"))
        journal.remove()


def bundle_demo(
    encoders: Path, run: Run, data: GzslData, measure: Callable[[Path], DemoScores], out: Path, command: str
) -> DemoScores:
    """Export a draft, measure it as it will be served, and export it with what was measured.

    Args:
        encoders: Bundle whose encoders are taken over, byte for byte; may be `out`.
        run: The trained head.
        data: What it was trained on.
        measure: Classifies the test clips with a bundle.
        out: Directory of the bundle.
        command: That makes the bundle, for the manifest.
    """
    manifest, parts = encoders_of(encoders)
    facts = BundleFacts(
        name="demo",
        version="1.2.0",
        description="A made-up world of shapes and sounds, to try the service with; knows nothing else.",
        notice="This bundle knows a made-up world of drawn shapes and synthetic sounds only: on real clips "
        "its answers mean nothing.",
        unseen_classes=tuple(data.class_names[i] for i in data.stage(2).unseen),
        metrics=(),
        command=command,
        seed=run.config.head.seed,
        data=f"procedurally made clips of the demo world; encoders {manifest.encoders_digest()}",
        card="not measured yet",
    )
    head = trained_head(run)
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "draft"
        export_bundle(draft, parts, head, facts)
        scores = measure(draft)
    late_fusion = evaluate(run, data, ranking="raw").accuracy
    torchs = [data.class_names[i] for i in predict(run, data)]
    n_differing = sum(ours != theirs for ours, theirs in zip(scores.predicted, torchs, strict=True))
    card, measured = model_card(scores, late_fusion, command), metrics(scores, late_fusion, n_differing)
    export_bundle(out, parts, head, replace(facts, metrics=measured, card=card))
    return scores
