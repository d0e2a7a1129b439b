"""Measure a demo bundle on the fixed test clips, through the same code that serves requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_export.data.gzsl_data import Track
from model_export.demo.corpus import HeadClip, list_head_clips, record_clips, run_in_processes
from model_export.demo.world import KINDS, Kind, World
from model_export.head.distances import StageRanked
from model_export.head.evaluation import Accuracy, accuracy_of, predicted_and_actual
from model_export.head.metrics import Ranked, mean_class_accuracy, nearest
from service.classifier import decode_spec
from service.decode import decode_clip
from service.encode.clip import encode_clip
from service.encode.features import ClipFeatures
from service.head.head import cosines_of
from service.labels.embedder import LabelEmbedder
from service.labels.embeddings import LabelEmbeddings
from service.labels.label import Candidates, make_label
from service.media import DecodeLimits
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

Progress = Callable[[str], None]
Floats = NDArray[np.float32]

TRACKS: tuple[Track, ...] = ("both", "visual", "audio")
_CHUNK = 100


@dataclass(frozen=True)
class KindAccuracy:
    """Test clips of the unseen classes of one kind.

    Attributes:
        kind: What is new about the names.
        n_classes: Classes of that kind.
        unseen: U of these classes, candidates being all classes, 0..100.
        zsl: Candidates being the unseen classes only, 0..100.
    """

    kind: Kind
    n_classes: int
    unseen: float
    zsl: float


@dataclass(frozen=True)
class DemoScores:
    """What was measured.

    Attributes:
        tracks: The four figures with both tracks and with each track alone.
        kinds: Both tracks, by kind of unseen class.
        predicted: Name of the class that each test clip was given, both tracks; clips of seen classes first.
        n_clips: Test clips of seen and of unseen classes.
    """

    tracks: dict[Track, Accuracy]
    kinds: tuple[KindAccuracy, ...]
    predicted: tuple[str, ...]
    n_clips: tuple[int, int]


def evaluate_demo(
    bundle: Path, work: Path, seed: int, progress: Progress, world: World | None = None, n_workers: int = 2
) -> DemoScores:
    """Record the test clips where they are missing, classify all of them, and score.

    Args:
        bundle: Directory of a demo bundle.
        work: Where the clips are kept.
        seed: Of the clips; the one that the bundle was built with.
        progress: Called with a line now and then.
        world: The specification.
        n_workers: Processes; each uses one core.
    """
    world = world or World()
    clips = test_clips(world, work)
    record_clips(world, seed, clips, n_workers=n_workers, progress=progress)
    features = _encode(bundle, clips, n_workers, progress)
    return _score(load_bundle(bundle, Runtime(device="cpu")), world, clips, features)


def test_clips(world: World, work: Path) -> list[HeadClip]:
    """The fixed test: every clip of the splits test_seen and test_unseen."""
    return [clip for clip in list_head_clips(world, work / "clips") if clip.split.startswith("test_")]


@dataclass(frozen=True)
class _Task:
    bundle: Path
    clips: tuple[HeadClip, ...]


def _encode(
    bundle: Path, clips: Sequence[HeadClip], n_workers: int, progress: Progress
) -> list[ClipFeatures]:
    tasks = [_Task(bundle, tuple(clips[i : i + _CHUNK])) for i in range(0, len(clips), _CHUNK)]
    features: list[ClipFeatures] = []
    for part in run_in_processes(_encode_part, tasks, n_workers):
        features += part
        progress(f"encoded test clips: {len(features)} of {len(clips)}")
    return features


def _encode_part(task: _Task) -> list[ClipFeatures]:
    bundle = load_bundle(task.bundle, Runtime(device="cpu", n_threads=1))
    spec, limits = decode_spec(bundle.manifest), DecodeLimits()
    return [encode_clip(bundle.encoders, decode_clip(clip.path, spec, limits)) for clip in task.clips]


def _score(
    bundle: Bundle, world: World, clips: Sequence[HeadClip], features: Sequence[ClipFeatures]
) -> DemoScores:
    labels = LabelEmbedder(len(world.classes)).embed(
        bundle, Candidates(tuple(make_label(c.name) for c in world.classes))
    )
    ranked = {track: _ranked(bundle, labels, clips, features, track) for track in TRACKS}
    scoring = bundle.head.scoring
    betas = {track: scoring(_only(features[0], track), labels.embedded).beta for track in TRACKS}
    both, beta = ranked["both"], betas["both"]
    return DemoScores(
        tracks={track: accuracy_of(one, betas[track]) for track, one in ranked.items()},
        kinds=tuple(_kind(both, world, kind, beta) for kind in KINDS),
        predicted=tuple(world.classes[i].name for i in predicted_and_actual(both, beta)[0]),
        n_clips=(len(both.seen_clips.class_index), len(both.unseen_clips.class_index)),
    )


def _ranked(
    bundle: Bundle,
    labels: LabelEmbeddings,
    clips: Sequence[HeadClip],
    features: Sequence[ClipFeatures],
    track: Track,
) -> StageRanked:
    """Distances of every clip to every class, in the order of the clips: seen ones first."""
    kept = [_only(one, track) for one in features]
    head = bundle.head
    distances = np.stack(
        [
            head.distances(head.embed_clip(one), cosines_of(one, labels.features), labels.embedded)
            for one in kept
        ]
    )
    actual = np.array([clip.class_index for clip in clips])
    is_seen = np.array([clip.split == "test_seen" for clip in clips])
    return StageRanked(
        seen_clips=Ranked(distances[is_seen], actual[is_seen]),
        unseen_clips=Ranked(distances[~is_seen], actual[~is_seen]),
        seen=np.flatnonzero(labels.seen),
        unseen=np.flatnonzero(~labels.seen),
    )


def _only(features: ClipFeatures, track: Track) -> ClipFeatures:
    return ClipFeatures(
        visual=None if track == "audio" else features.visual,
        audio=None if track == "visual" else features.audio,
    )


def _kind(ranked: StageRanked, world: World, kind: Kind, beta: float) -> KindAccuracy:
    ids = np.array([i for i, spec in enumerate(world.classes) if spec.kind == kind and i in ranked.unseen])
    rows = np.isin(ranked.unseen_clips.class_index, ids)
    distances, actual = ranked.unseen_clips.distances[rows], ranked.unseen_clips.class_index[rows]
    stacked = distances + beta * np.isin(np.arange(distances.shape[1]), ranked.seen)
    return KindAccuracy(
        kind=kind,
        n_classes=len(ids),
        unseen=mean_class_accuracy(nearest(stacked, ranked.candidates()), actual),
        zsl=mean_class_accuracy(nearest(distances, ranked.unseen), actual),
    )
