"""A classification as JSON, for HTTP and for `ahse classify --json` alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.api.schemas import (
    Agreement,
    ClassifyResponse,
    Guarantee,
    Prediction,
    Receipt,
    SegmentAnswer,
    SegmentReceipt,
    Tracks,
    TrackScore,
    TrackUse,
)
from service.best import BestNames
from service.bundle.manifest import AudioEncoderSpec
from service.classification import Classification
from service.embed.embeddings import LabelEmbeddings
from service.encode.clip_features import window_times
from service.guarantee import KeptNames
from service.media import Segment, Track
from service.ranking import TrackScores


def make_answer(
    result: Classification,
    *,
    request_id: str,
    label_set: str | None,
    top_k: int | None,
    timings_ms: Mapping[str, float],
    warnings: Sequence[str] = (),
) -> ClassifyResponse:
    """Build the response.

    Args:
        result: The classification.
        request_id: Id of the request.
        label_set: Name of the label set that was used; None for labels of the request.
        top_k: Number of predictions of the clip; None returns all.
        timings_ms: Wall time of each step.
        warnings: Beside those of the classification.
    """
    manifest, clip, best = result.bundle.manifest, result.clip, result.whole.best(top_k)
    return ClassifyResponse(
        id=request_id,
        bundle=manifest.name,
        bundle_version=manifest.version,
        bundle_notice=manifest.notice,
        label_set=label_set,
        n_labels=len(result.names.labels),
        predictions=_predictions(best, result.names),
        tracks=_tracks(clip.visual, clip.audio, best, result.names),
        unknown=_unknown(best),
        guarantee=_guarantee(result.guarantee, result.names),
        receipt=_receipt(result),
        duration_s=_rounded(clip.duration_s),
        calibration=_rounded(result.whole.beta),
        segments=_segments(result) if clip.segments else None,
        warnings=[*result.warnings, *warnings],
        timings_ms={step: round(ms, 2) for step, ms in timings_ms.items()},
    )


def _receipt(result: Classification) -> Receipt:
    return Receipt(
        clip_sha256=result.clip_sha256,
        frame_times_s=_times(result.clip.frame_times_s),
        audio_windows_s=_spans(result.encoded.windows_s),
    )


def _times(times_s: NDArray[np.float64]) -> list[float]:
    return [_rounded(one) for one in times_s]


def _spans(spans_s: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(_rounded(start), _rounded(end)) for start, end in spans_s]


def _segments(result: Classification) -> list[SegmentAnswer]:
    spec = result.bundle.manifest.audio
    return [
        _segment(segment, best, result.names, spec)
        for segment, best in zip(result.clip.segments, result.segments, strict=True)
    ]


def _segment(
    segment: Segment, best: BestNames | None, names: LabelEmbeddings, spec: AudioEncoderSpec
) -> SegmentAnswer:
    samples = segment.audio_samples
    return SegmentAnswer(
        start_s=_rounded(segment.start_s),
        end_s=_rounded(segment.end_s),
        predictions=[] if best is None else _predictions(best, names),
        tracks=_tracks(segment.visual, segment.audio, best, names),
        unknown=None if best is None else _unknown(best),
        receipt=SegmentReceipt(
            frame_times_s=_times(segment.frame_times_s),
            audio_windows_s=[] if samples is None else _spans(window_times(spec, *samples)),
        ),
    )


def _predictions(best: BestNames, names: LabelEmbeddings) -> list[Prediction]:
    return [
        Prediction(
            rank=place + 1,
            label=names.labels[index].name,
            score=_rounded(best.score[place]),
            distance=_rounded(best.distance[place]),
            seen=bool(names.seen[index]),
            visual=_track_score(best.visual, place),
            audio=_track_score(best.audio, place),
        )
        for place, index in enumerate(best.index.tolist())
    ]


def _track_score(scores: TrackScores | None, place: int) -> TrackScore | None:
    if scores is None:
        return None
    return TrackScore(similarity=_rounded(scores.similarity[place]), score=_rounded(scores.score[place]))


def _unknown(best: BestNames) -> float | None:
    return None if best.unknown is None else _rounded(best.unknown)


def _rounded(value: float | np.float32) -> float:
    """Six decimals: the rest of a float32 says nothing."""
    return round(float(value), 6)


def _guarantee(found: KeptNames | None, names: LabelEmbeddings) -> Guarantee | None:
    if found is None:
        return None
    kept = None if found.kept is None else [names.labels[index].name for index in found.kept.tolist()]
    return Guarantee(level=found.level, labels=kept, holds_for=found.holds_for)


def _tracks(visual: Track, audio: Track, best: BestNames | None, names: LabelEmbeddings) -> Tracks:
    found = None if best is None else best.agreement
    return Tracks(
        visual=_track_use(visual),
        audio=_track_use(audio),
        agreement=None
        if found is None
        else Agreement(
            score=_rounded(found.score),
            visual=names.labels[found.visual_first].name,
            audio=names.labels[found.audio_first].name,
            surer=found.surer,
        ),
    )


def _track_use(track: Track) -> TrackUse:
    return TrackUse(used=track.used, reason=track.reason, detail=track.detail)
