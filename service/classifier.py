"""The flow, whole: decode > encode > fuse > standardise > rank."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from service.bundle.bundle import Bundle
from service.candidates.embedder import LabelEmbedder, Templates
from service.candidates.embeddings import LabelEmbeddings
from service.decode.segment_length import SegmentLength
from service.encode.clip import encode_clip, encode_segments
from service.encode.features import ClipFeatures
from service.labels.label import Label
from service.media import Clip, DecodeSpec, Frames
from service.rank.cosines import cosines_of
from service.rank.ranker import ranker_of
from service.rank.ranking import Ranking, Stacking, TrackScores, beta_of, rank, score_track

# Names that a warning lists.
_MAX_FAR_NAMES = 5


class Decoder(Protocol):
    """Turns a file into a clip, somewhere safe."""

    def decode(self, path: Path, spec: DecodeSpec) -> Clip:
        """Decode what the spec asks for; raises MediaError."""


@dataclass(frozen=True)
class Ranked:
    """The candidates ranked for a clip, or for one of its segments."""

    ranking: Ranking
    visual: TrackScores | None
    """None when no picture was used."""
    audio: TrackScores | None
    """None when no sound was used."""
    beta: float
    """what was added to the distances of seen classes."""


@dataclass(frozen=True)
class Classification:
    """The answer for one clip."""

    bundle: Bundle
    clip: Clip
    labels: LabelEmbeddings
    whole: Ranked
    segments: tuple[Ranked | None, ...]
    """one for each segment of the clip; None for a segment with neither picture nor sound."""
    timings_ms: dict[str, float]
    """wall time of each step, in the order of the flow."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences for the user: which track was missing, and what decoding left out or repaired."""
        missing = []
        if self.whole.visual is None:
            missing.append(f"Ranked by the sound alone; no picture was used: {self.clip.visual.detail}.")
        if self.whole.audio is None:
            missing.append(f"Ranked by the picture alone; no sound was used: {self.clip.audio.detail}.")
        return (*missing, *self.clip.warnings, *self._far_names())

    def _far_names(self) -> Iterator[str]:
        known, nearness = self.bundle.manifest.known_names, self.labels.features.nearness
        far = np.flatnonzero(nearness < known.threshold) if known is not None and nearness is not None else ()
        if len(far):
            named = ", ".join(repr(self.labels.labels[index].name) for index in far[:_MAX_FAR_NAMES])
            rest = f" and {len(far) - _MAX_FAR_NAMES} more" if len(far) > _MAX_FAR_NAMES else ""
            yield (
                f"Far from every name that the bundle's encoders know, so their scores mean little: {named}"
                f"{rest}."
            )


@dataclass
class _Stopwatch:
    """Wall time of named steps."""

    laps_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.laps_ms[name] = (time.perf_counter() - start) * 1000


class Classifier:
    """Answers which of the candidate names fits a clip best. Thread-safe; holds no request state."""

    def __init__(self, decoder: Decoder, embedder: LabelEmbedder) -> None:
        self._decoder = decoder
        self._embedder = embedder

    def classify(
        self,
        path: Path,
        bundle: Bundle,
        labels: Sequence[Label],
        *,
        templates: Templates = None,
        known_as: str | None = None,
        stacking: Stacking = "auto",
        segment_s: SegmentLength | None = None,
        frames: Frames = "exact",
    ) -> Classification:
        """Rank the labels for the clip in a file, and for its segments when they are asked for.

        The ranking of the whole clip does not depend on segments.

        Args:
            path: a media file; its name and ending are not looked at.
            bundle: the models.
            labels: candidates, at least one, already checked.
            templates: prompt templates for both modalities instead of the bundle's own.
            known_as: what only these labels are called, such as the ETag of their label set.
            stacking: calibrated stacking: the bundle's beta, none, or a number.
            segment_s: length of the segments; None for none.
            frames: those at the wanted times, or the key frames nearest to them, which decode faster.

        Raises:
            MediaError: the file can't be used; says why.
        """
        watch = _Stopwatch()
        with watch.step("decode"):
            clip = self._decoder.decode(path, decode_spec(bundle, segment_s, frames))
        with watch.step("encode"):
            features = encode_clip(bundle, clip)
            of_segments = encode_segments(bundle, clip)
        with watch.step("labels"):
            candidates = self._embedder.embed(bundle, labels, templates, known_as)
        with watch.step("rank"):
            whole = rank_candidates(bundle, features, candidates, stacking)
            segments = tuple(
                None if one.is_empty else rank_candidates(bundle, one, candidates, stacking)
                for one in of_segments
            )
        return Classification(bundle, clip, candidates, whole, segments, watch.laps_ms)


def decode_spec(
    bundle: Bundle, segment_s: SegmentLength | None = None, frames: Frames = "exact"
) -> DecodeSpec:
    """What the bundle's encoders need of a clip, and of its segments when they are asked for."""
    visual, audio = bundle.manifest.visual, bundle.manifest.audio
    return DecodeSpec(
        n_frames=visual.n_frames,
        image_size_px=visual.image_size_px,
        sampling=visual.sampling,
        resize=visual.resize,
        sample_rate_hz=audio.sample_rate_hz,
        max_audio_s=audio.max_s,
        frames=frames,
        segment_s=audio.window_s if segment_s == "auto" else segment_s,
    )


def rank_candidates(
    bundle: Bundle, features: ClipFeatures, candidates: LabelEmbeddings, stacking: Stacking
) -> Ranked:
    """Rank the candidates by the tracks that are there, at least one."""
    ranker, towers = ranker_of(bundle), bundle.manifest
    cosines = cosines_of(features, candidates.features)
    scoring = ranker.scoring(features, candidates.embedded)
    beta = beta_of(stacking, scoring.beta)
    distance = ranker.distances(features, cosines, candidates.embedded)
    return Ranked(
        rank(distance, candidates.seen, scoring, beta),
        None if cosines.visual is None else score_track(cosines.visual, towers.visual.logit_scale),
        None if cosines.audio is None else score_track(cosines.audio, towers.audio.logit_scale),
        beta,
    )
