"""The demo bundle: the head beside encoders that are there, or everything from nothing, examples included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from model_export.data.gzsl_data import GzslData
from model_export.demo.bundle import write_encoders
from model_export.demo.card import metrics, model_card
from model_export.demo.encoders.build import build_encoders
from model_export.demo.encoders.trained import CONFIG_FILE, load_encoders
from model_export.demo.evaluate import DemoScores, evaluate_demo
from model_export.demo.examples import write_examples
from model_export.demo.features import demo_features
from model_export.demo.world import World
from model_export.export.bundle import BundleFacts, export_bundle
from model_export.export.heads import trained_head
from model_export.export.reuse import encoders_of
from model_export.head.evaluation import evaluate, predict
from model_export.head.head_config import PRESETS
from model_export.head.run_folder import Run
from model_export.head.training import train
from service.bundle.directory import read_manifest
from service.errors import AhseError

Progress = Callable[[str], None]


class OtherBuildError(AhseError):
    """The work folder is taken."""

    code = "other_build"


def build_demo(work: Path, out: Path, examples: Path, seed: int, progress: Progress) -> DemoScores:
    """Rebuild encoders, head and example clips; what an interrupted build has finished is kept.

    Args:
        work: For everything made on the way; several hundred megabytes of clips.
        out: Where the bundle shall stand.
        examples: Where the example clips shall stand.
        seed: Decides everything random.
        progress: Told what is going on, a line at a time.

    Raises:
        OtherBuildError: the work folder holds a build of another world or seed.
    """
    claim(work, seed)
    encoders = trained_encoders(work, seed, progress)
    scores = build_head(encoders, work, out, seed, progress, f"ahse demo build --seed {seed}")
    write_examples(World(), seed, examples)
    return scores


def rebuild_head(work: Path, out: Path, seed: int, progress: Progress) -> DemoScores:
    """Rebuild the head of a bundle beside its encoders, which stay as they are; examples stay too.

    Args:
        work: For everything made on the way.
        out: A demo bundle; the new one takes its place.
        seed: Of the clips and the head.
        progress: Told what is going on, a line at a time.

    Raises:
        BundleInvalidError: there is no whole bundle in `out`.
        OtherBuildError: the work folder holds a build of another world or seed.
    """
    encoders_of(out)  # before the work: what is no bundle can't keep its encoders
    claim(work, seed)
    return build_head(out, work, out, seed, progress, f"ahse demo build --keep-encoders --seed {seed}")


def claim(work: Path, seed: int) -> None:
    """Note in the work folder which build it is for, or make sure that it is for this one."""
    identity = f"seed {seed}, {World()!r}"
    work.mkdir(parents=True, exist_ok=True)
    note = work / "build.txt"
    if note.is_file() and note.read_text(encoding="utf-8") != identity:
        raise OtherBuildError(
            f"{work} holds a build of another world or seed; remove it or choose another folder with --work"
        )
    note.write_text(identity, encoding="utf-8")


def trained_encoders(work: Path, seed: int, progress: Progress) -> Path:
    """A bundle of encoders trained from nothing, so that features are made as serving makes them."""
    bundle, trained = work / "encoders_bundle", work / "encoders"
    if not bundle.is_dir():
        # Their configuration is written last.
        done = (trained / CONFIG_FILE).is_file()
        write_encoders(load_encoders(trained) if done else build_encoders(work, seed, progress), bundle, seed)
    return bundle


def build_head(
    encoders: Path, work: Path, out: Path, seed: int, progress: Progress, command: str
) -> DemoScores:
    """Record clips, extract features, train the head, measure it and write the bundle.

    Args:
        encoders: Bundle whose encoders are taken over; may be `out`.
        work: Clips are kept in it, and features and the run by the encoders' digest.
        out: Where the bundle shall stand.
        seed: Of clips and head.
        progress: Told what is going on, a line at a time.
        command: That makes the bundle, for the manifest.
    """
    own = work / read_manifest(encoders).encoders_digest()[:12]
    data = demo_features(encoders, work / "clips", own / "features.safetensors", seed, progress)
    # One thread: another number would round otherwise, and a busy or small machine would wait for the second.
    run = train(data, PRESETS["ahse"].model_copy(update={"seed": seed}), own / "run", n_threads=1)
    measure = partial(evaluate_demo, work=work, seed=seed, progress=progress)
    return bundle_demo(encoders, run, data, measure, out, command)


def bundle_demo(
    encoders: Path, run: Run, data: GzslData, measure: Callable[[Path], DemoScores], out: Path, command: str
) -> DemoScores:
    """Export a draft, measure it as it will be served, and export it with what was measured.

    Args:
        encoders: Bundle whose encoders are taken over, byte for byte; may be `out`.
        run: The trained head.
        data: What it was trained on.
        measure: Classifies the test clips with a bundle.
        out: Where the bundle shall stand.
        command: That makes the bundle, for the manifest.
    """
    manifest, parts = encoders_of(encoders)
    facts = BundleFacts(
        name="demo",
        version="1.1.0",
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
