"""The whole flow: decode, encode, embed the names, then (`rank_names`) fuse, standardise, distances, rank."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from service.arrays import Array
from service.best import BestNames, best_of_each
from service.bundle.manifest import AudioEncoderSpec, Manifest
from service.cancellation import raise_if_cancelled
from service.classification import Classification, Ranked
from service.decode.pool import open_clip
from service.embed.embedder import Embedding, LabelEmbedder
from service.embed.embeddings import LabelEmbeddings, label_embeddings, rows_of
from service.encode.clip_features import EncodingAhead, encode_segments, window_starts, window_times
from service.encode.features import ClipFeatures, pool
from service.encode.known_clips import ClipKey, EncodedClip, KnownClips
from service.encode.text import encode_labels
from service.errors import BundleInvalidError, ClipUnavailableError
from service.guarantee import KeptNames, keep_names
from service.head.agreement import agreement
from service.head.head import cosines_of
from service.labels.label import Candidates, make_label
from service.media import Clip, DecodeSpec, OnSound
from service.options import Beta, ClassifyOptions
from service.ranking import Ranking, beta_of, rank, score_track
from service.registry import Bundle
from service.tracing import Facts, Tracing

# Names of a segment when top_k is not given, and their maximum: an answer may have many segments.
_SEGMENT_TOP_K, _SEGMENT_MAX_K = 5, 100
# Of longer sound, evenly spread windows are used: as many as sound of this length has.
_WHOLE_AUDIO_S = 60.0

Decode = Callable[[Path, DecodeSpec, OnSound], Clip]
"""Turns a file into a clip, somewhere safe; raises MediaError or UnavailableError."""


@dataclass
class _Stopwatch:
    """Wall time of named steps, which are spans too where requests are traced."""

    tracing: Tracing
    laps_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[Facts]:
        start = time.perf_counter()
        with self.tracing.step(name) as facts:
            yield facts
        self.laps_ms[name] = (time.perf_counter() - start) * 1000


class Classifier:
    """Answers which of the candidate names fits a clip best. Thread-safe; holds no request state.

    Args:
        decode: Decodes clips.
        embedder: Embeds names, and remembers them.
        known_clips: Where features of clips are kept; None: nowhere.
        tracing: Makes spans of the steps.
    """

    def __init__(
        self,
        decode: Decode,
        embedder: LabelEmbedder,
        known_clips: KnownClips | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._decode = decode
        self._embedder = embedder
        self._known_clips = known_clips or KnownClips(0)
        self._tracing = tracing or Tracing()

    def embed(self, bundle: Bundle, candidates: Candidates, options: ClassifyOptions) -> Embedding:
        """Begin to embed the candidates, which does not depend on any clip; see `Embedding` for the rest."""
        return self._embedder.begin(bundle, candidates, options.templates)

    def classify(
        self, path: Path, bundle: Bundle, names: LabelEmbeddings, options: ClassifyOptions
    ) -> Classification:
        """Rank the candidates for the clip in a file, and for its segments when they are asked for.

        The ranking of the whole clip does not depend on segments.

        Args:
            path: A media file; its name and ending are not looked at.
            bundle: The models.
            names: The candidates.
            options: How.

        Raises:
            MediaError: The file can't be used; says why.
            ClipUnavailableError: It can't be read now.
            DecoderUnavailableError: No clip can be decoded now.
            WorkCancelled: The request was cancelled.
        """
        watch = _Stopwatch(self._tracing)
        encoded, sha256, is_known = self._encoded(path, bundle, options, watch)
        with watch.step("rank"):
            whole = rank_names(bundle, encoded.features, names, options.beta)
            segments = _rank_segments(bundle, encoded.segments, names, options)
            kept = _kept(bundle, whole.ranking, names, encoded, options)
        return Classification(bundle, encoded, sha256, is_known, names, whole, segments, kept, watch.laps_ms)

    def clip_vector(self, path: Path, bundle: Bundle, options: ClassifyOptions) -> Array:
        """The clip in a file as a vector of the space that names are in, too; see `Head.clip_vector`.

        Args:
            path: A media file; its name and ending are not looked at.
            bundle: The models.
            options: Which frames are looked at.

        Raises:
            MediaError, ClipUnavailableError, DecoderUnavailableError, WorkCancelled: As in `classify`.
        """
        manifest = bundle.manifest
        encoded, _, _ = self._encoded(path, bundle, options, _Stopwatch(self._tracing))
        return bundle.head.clip_vector(encoded.features, (manifest.visual.dim, manifest.audio.dim))

    def _encoded(
        self, path: Path, bundle: Bundle, options: ClassifyOptions, watch: _Stopwatch
    ) -> tuple[EncodedClip, str, bool]:
        """A clip's features, the digest of its file, and whether they were known."""
        spec = decode_spec(bundle.manifest, options)
        with EncodingAhead(bundle.encoders) as ahead:
            with watch.step("decode") as facts:
                sha256 = _digest(path)
                raise_if_cancelled("decode")
                key = ClipKey(sha256, bundle.encoders_digest, spec)
                known = self._known_clips.get(key)
                clip = self._decode(path, spec, ahead.begin) if known is None else known.clip
                facts |= {"duration_s": clip.duration_s, "n_segments": len(clip.segments)}
            with watch.step("encode"):
                if known is not None:
                    return known, sha256, True
                made = _encode(bundle, clip, ahead)
        self._known_clips.keep(key, made)
        return made, sha256, False


def _digest(path: Path) -> str:
    """SHA-256 of a clip's file.

    Raises:
        ClipUnavailableError: It can't be opened, or read to its end, now.
    """
    try:
        with open_clip(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # while it was read, from a disk or a network that fails
        raise ClipUnavailableError from error


def _encode(bundle: Bundle, clip: Clip, ahead: EncodingAhead) -> EncodedClip:
    return EncodedClip(
        clip,
        ahead.features(clip),
        tuple(encode_segments(bundle.encoders, clip)),
        _window_times(bundle.manifest.audio, clip),
    )


def _window_times(spec: AudioEncoderSpec, clip: Clip) -> tuple[tuple[float, float], ...]:
    if clip.waveform is None:
        return ()
    if clip.window_starts_s:
        return tuple((start_s, start_s + spec.window_s) for start_s in clip.window_starts_s)
    return window_times(spec, 0, len(clip.waveform))


def name_vectors(bundle: Bundle, names: LabelEmbeddings) -> Array:
    """Names as vectors, float32 [n, width]; see `Head.name_vectors`."""
    return bundle.head.name_vectors(names.features, names.embedded)


def vector_width(bundle: Bundle) -> int:
    """The width of vectors of names and clips."""
    return bundle.head.vector_width((bundle.manifest.visual.dim, bundle.manifest.audio.dim))


def decode_spec(manifest: Manifest, options: ClassifyOptions | None = None) -> DecodeSpec:
    """What a bundle's encoders need of a clip, and of its segments when they are asked for."""
    visual, audio, options = manifest.visual, manifest.audio, options or ClassifyOptions()
    most = _n_windows(audio, audio.max_s)
    n_windows = min(options.audio_windows or _n_windows(audio, _WHOLE_AUDIO_S), most)
    return DecodeSpec(
        n_frames=visual.n_frames,
        image_size_px=visual.image_size_px,
        sampling=visual.sampling,
        resize=visual.resize,
        sample_rate_hz=audio.sample_rate_hz,
        # Of a bundle whose most is less than a window one window counts.
        max_audio_s=max(audio.window_s, min(audio.window_s + (n_windows - 1) * audio.hop_s, audio.max_s)),
        n_windows=n_windows,
        window_s=audio.window_s,
        frames=options.frames or "exact",
        segment_s=audio.window_s if options.segment_s == "auto" else options.segment_s,
    )


def _has_other_windows(manifest: Manifest, options: ClassifyOptions) -> bool:
    usual = options.model_copy(update={"audio_windows": None})
    return decode_spec(manifest, options) != decode_spec(manifest, usual)


def _n_windows(audio: AudioEncoderSpec, length_s: float) -> int:
    n_samples = round(length_s * audio.sample_rate_hz)
    return len(window_starts(n_samples, audio.window_samples, audio.hop_samples))


def _kept(
    bundle: Bundle, ranking: Ranking, names: LabelEmbeddings, encoded: EncodedClip, options: ClassifyOptions
) -> KeptNames | None:
    """What the guarantee keeps that was asked for; says where something else was used than was measured."""
    if options.guarantee is None:
        return None
    found = keep_names(ranking, names.seen, encoded.features.tracks, bundle.guarantees, options.guarantee)
    otherwise = [
        *(["templates of its own"] if options.templates is not None else []),
        *(["labels with prompts of their own"] if any(label.prompts for label in names.labels) else []),
        *(["key frames"] if encoded.clip.at_key_frames else []),
        *(["other audio windows"] if _has_other_windows(bundle.manifest, options) else []),
    ]
    if found.kept is None or not otherwise:
        return found
    return replace(found, holds_for=f"{found.holds_for} Not measured with {' and '.join(otherwise)}.")


def _rank_segments(
    bundle: Bundle, segments: Sequence[ClipFeatures], names: LabelEmbeddings, options: ClassifyOptions
) -> tuple[BestNames | None, ...]:
    k = min(options.top_k or _SEGMENT_TOP_K, _SEGMENT_MAX_K)
    there = [one for one in segments if not one.is_empty]
    best = iter(best_of_each(bundle, there, names, options.beta, k))
    return tuple(None if one.is_empty else next(best) for one in segments)


def rank_names(bundle: Bundle, features: ClipFeatures, names: LabelEmbeddings, asked: Beta) -> Ranked:
    """Fuse and standardise, take distances, and rank.

    Args:
        bundle: The models.
        features: Of at least one track.
        names: The candidates.
        asked: The beta that was asked for.
    """
    head, encoders = bundle.head, bundle.manifest
    embedding = head.embed_clip(features)
    cosines = cosines_of(features, names.features)
    distance = head.distances(embedding, cosines, names.embedded)
    scoring = head.scoring(features, names.embedded)
    beta = beta_of(asked, scoring.beta)
    return Ranked(
        rank(distance, names.seen, scoring, beta),
        None if cosines.visual is None else score_track(cosines.visual, encoders.visual.logit_scale),
        None if cosines.audio is None else score_track(cosines.audio, encoders.audio.logit_scale),
        agreement(head, features, cosines, names.embedded),
        beta,
    )


def try_bundle(bundle: Bundle) -> None:
    """Send noise and two names through all graphs of a bundle, past every cache.

    Raises:
        BundleInvalidError: The result is not finite.
    """
    visual, audio = bundle.manifest.visual, bundle.manifest.audio
    noise = np.random.default_rng(0)
    frames = noise.integers(0, 256, (1, visual.image_size_px, visual.image_size_px, 3), np.uint8)
    waveform = noise.uniform(-1, 1, (1, audio.window_samples)).astype(np.float32)
    features = ClipFeatures(
        pool(bundle.encoders.visual(frames=frames)), pool(bundle.encoders.audio(waveform=waveform))
    )
    labels = (make_label("noise"), make_label("nothing"))
    text = encode_labels(bundle.encoders, labels)
    names = label_embeddings(bundle, labels, rows_of(text, bundle.head.embed_names(text)))
    if not np.isfinite(rank_names(bundle, features, names, "auto").ranking.distance).all():
        raise BundleInvalidError("its graphs return numbers that are not finite")
