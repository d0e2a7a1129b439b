"""A classification as JSON, for HTTP and for `ahse classify --json` alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from service.api.schemas import (
    Agreement,
    ClassifyResponse,
    Guarantee,
    Prediction,
    SegmentAnswer,
    Tracks,
    TrackScore,
    TrackUse,
)
from service.classifier import Classification, Ranked
from service.embed.embeddings import LabelEmbeddings
from service.guarantee import KeptNames
from service.media import Segment, Track
from service.ranking import TrackScores

# Predictions of a segment when top_k is not given, and their maximum: an answer may have many segments.
_SEGMENT_TOP_K, _SEGMENT_MAX_K = 5, 100


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
        top_k: Number of predictions; None returns all of the clip, and 5 of each segment.
        timings_ms: Wall time of each step.
        warnings: Beside those of the classification.
    """
    manifest, clip, whole = result.bundle.manifest, result.clip, result.whole
    return ClassifyResponse(
        id=request_id,
        bundle=manifest.name,
        bundle_version=manifest.version,
        bundle_notice=manifest.notice,
        label_set=label_set,
        n_labels=len(result.names.labels),
        predictions=_predictions(whole, result.names, top_k),
        tracks=_tracks(clip.visual, clip.audio, whole, result.names),
        unknown=_unknown(whole),
        guarantee=_guarantee(result.guarantee, result.names),
        duration_s=_rounded(clip.duration_s),
        calibration=_rounded(whole.beta),
        segments=_segments(result, top_k) if clip.segments else None,
        warnings=[*result.warnings, *warnings],
        timings_ms={step: round(ms, 2) for step, ms in timings_ms.items()},
    )


def _segments(result: Classification, top_k: int | None) -> list[SegmentAnswer]:
    n_predictions = min(top_k or _SEGMENT_TOP_K, _SEGMENT_MAX_K)
    return [
        _segment(segment, ranked, result.names, n_predictions)
        for segment, ranked in zip(result.clip.segments, result.segments, strict=True)
    ]


def _segment(
    segment: Segment, ranked: Ranked | None, labels: LabelEmbeddings, n_predictions: int
) -> SegmentAnswer:
    return SegmentAnswer(
        start_s=_rounded(segment.start_s),
        end_s=_rounded(segment.end_s),
        predictions=[] if ranked is None else _predictions(ranked, labels, n_predictions),
        tracks=_tracks(segment.visual, segment.audio, ranked, labels),
        unknown=None if ranked is None else _unknown(ranked),
    )


def _predictions(ranked: Ranked, labels: LabelEmbeddings, top_k: int | None) -> list[Prediction]:
    ranking = ranked.ranking
    return [
        Prediction(
            rank=rank,
            label=labels.labels[index].name,
            score=_rounded(ranking.score[index]),
            distance=_rounded(ranking.distance[index]),
            seen=bool(labels.seen[index]),
            visual=_track_score(ranked.visual, index),
            audio=_track_score(ranked.audio, index),
        )
        for rank, index in enumerate(ranking.best(top_k).tolist(), start=1)
    ]


def _track_score(scores: TrackScores | None, index: int) -> TrackScore | None:
    if scores is None:
        return None
    return TrackScore(similarity=_rounded(scores.similarity[index]), score=_rounded(scores.score[index]))


def _unknown(ranked: Ranked) -> float | None:
    return None if ranked.ranking.unknown is None else _rounded(ranked.ranking.unknown)


def _rounded(value: float | np.float32) -> float:
    """Six decimals: the rest of a float32 says nothing."""
    return round(float(value), 6)


def _guarantee(found: KeptNames | None, names: LabelEmbeddings) -> Guarantee | None:
    if found is None:
        return None
    kept = None if found.kept is None else [names.labels[index].name for index in found.kept.tolist()]
    return Guarantee(level=found.level, labels=kept, holds_for=found.holds_for)


def _tracks(visual: Track, audio: Track, ranked: Ranked | None, names: LabelEmbeddings) -> Tracks:
    found = None if ranked is None else ranked.agreement
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
