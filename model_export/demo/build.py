"""Everything of the demo, from nothing: encoders, features, head, bundle, examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from model_export.data.features import GzslData
from model_export.demo.bundle import encoder_parts
from model_export.demo.card import metrics, model_card
from model_export.demo.encoders.build import build_encoders
from model_export.demo.encoders.trained import CONFIG_FILE, TinyEncoders, load_encoders
from model_export.demo.evaluate import DemoScores, evaluate_demo
from model_export.demo.examples import write_examples
from model_export.demo.features import FEATURES_FILE, build_features, load_features
from model_export.demo.world import World
from model_export.export.bundle import BundleFacts, export_bundle
from model_export.export.heads import trained_head
from model_export.head.config import PRESETS
from model_export.head.evaluate import evaluate, predict
from model_export.head.run import Run
from model_export.head.train import train
from service.errors import AhseError

Progress = Callable[[str], None]


class OtherBuildError(AhseError):
    """The work folder is taken."""

    code = "other_build"


def build_demo(work: Path, out: Path, examples: Path, seed: int, progress: Progress) -> DemoScores:
    """Rebuild the demo bundle and the example clips; what an interrupted build has finished is kept.

    Args:
        work: For everything made on the way; several hundred megabytes of clips.
        out: Where the bundle shall stand.
        examples: Where the example clips shall stand.
        seed: Decides everything random.
        progress: Told what is going on, a line at a time.

    Raises:
        OtherBuildError: the work folder holds a build of another world or seed.
    """
    world = World()
    claim(work, f"seed {seed}, {world!r}")
    encoders = (
        load_encoders(work / "encoders") if has_encoders(work) else build_encoders(work, seed, progress)
    )
    features = work / FEATURES_FILE
    data = (
        load_features(features) if features.is_file() else build_features(work, seed, progress, world)
    ).data
    config = PRESETS["ahse"].model_copy(update={"seed": seed})
    run = train(data, config, work / "run", n_threads=2)
    measure = partial(evaluate_demo, work=work, seed=seed, progress=progress, world=world)
    scores = bundle_demo(encoders, run, data, measure, out, seed)
    write_examples(world, seed, examples)
    return scores


def claim(work: Path, identity: str) -> None:
    """Note in the work folder which build it is for, or make sure that it is for this one."""
    work.mkdir(parents=True, exist_ok=True)
    note = work / "build.txt"
    if note.is_file() and note.read_text(encoding="utf-8") != identity:
        raise OtherBuildError(
            f"{work} holds a build of another world or seed; remove it or choose another folder with --work"
        )
    note.write_text(identity, encoding="utf-8")


def has_encoders(work: Path) -> bool:
    """Whether the encoders' training came to its end: their configuration is written last."""
    return (work / "encoders" / CONFIG_FILE).is_file()


def bundle_demo(
    encoders: TinyEncoders,
    run: Run,
    data: GzslData,
    measure: Callable[[Path], DemoScores],
    out: Path,
    seed: int,
) -> DemoScores:
    """Export a draft, measure it as it will be served, and export it with what was measured.

    Args:
        encoders: The trained towers.
        run: The trained head.
        data: What the head was trained on.
        measure: Classifies the test clips with a bundle.
        out: Where the bundle shall stand.
        seed: For the manifest.
    """
    facts = BundleFacts(
        name="demo",
        version="1.0.0",
        description="A made-up world of shapes and sounds, to try the service with; knows nothing else.",
        unseen_classes=tuple(data.class_names[i] for i in data.stage(2).unseen),
        metrics=(),
        command=f"ahse demo build --seed {seed}",
        seed=seed,
        data="procedurally made clips of the demo world",
        card="not measured yet",
    )
    parts, head = encoder_parts(encoders), trained_head(run)
    with TemporaryDirectory() as folder:
        draft = Path(folder) / "draft"
        export_bundle(draft, parts, head, facts)
        scores = measure(draft)
    late_fusion = evaluate(run, data, ranking="raw").accuracy
    n_differing = int(np.sum(scores.predicted != predict(run, data)))
    card, measured = model_card(scores, late_fusion, seed), metrics(scores, late_fusion, n_differing)
    export_bundle(out, parts, head, replace(facts, metrics=measured, card=card))
    return scores
