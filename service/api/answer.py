"""A classification as the answer that goes over the wire, for HTTP and for `ahse classify --json` alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from service.api.schemas import ClassifyResponse, Prediction, Tracks, TrackScore, TrackUse
from service.classifier import Classification
from service.media import Track
from service.rank.ranking import TrackScores


def make_answer(
    result: Classification,
    *,
    request_id: str,
    label_set: str | None,
    top_k: int | None,
    timings_ms: Mapping[str, float],
) -> ClassifyResponse:
    """Everything that a client is told.

    Args:
        result: the classification.
        request_id: of the request.
        label_set: that was used, if one was.
        top_k: predictions to tell; None tells all.
        timings_ms: wall time of each step.
    """
    manifest, clip = result.bundle.manifest, result.clip
    return ClassifyResponse(
        id=request_id,
        bundle=manifest.name,
        bundle_version=manifest.version,
        label_set=label_set,
        n_labels=len(result.labels.labels),
        predictions=_predictions(result, top_k),
        tracks=Tracks(visual=_track_use(clip.visual), audio=_track_use(clip.audio)),
        unknown=None if result.ranking.unknown is None else _rounded(result.ranking.unknown),
        duration_s=_rounded(clip.duration_s),
        calibration=_rounded(result.beta),
        warnings=list(result.warnings),
        timings_ms={step: round(ms, 2) for step, ms in timings_ms.items()},
    )


def _predictions(result: Classification, top_k: int | None) -> list[Prediction]:
    ranking, labels = result.ranking, result.labels
    return [
        Prediction(
            rank=rank,
            label=labels.labels[index].name,
            score=_rounded(ranking.score[index]),
            distance=_rounded(ranking.distance[index]),
            seen=bool(labels.seen[index]),
            visual=_track_score(result.visual, index),
            audio=_track_score(result.audio, index),
        )
        for rank, index in enumerate(ranking.order[:top_k].tolist(), start=1)
    ]


def _track_score(scores: TrackScores | None, index: int) -> TrackScore | None:
    if scores is None:
        return None
    return TrackScore(similarity=_rounded(scores.similarity[index]), score=_rounded(scores.score[index]))


def _rounded(value: float | np.float32) -> float:
    """Six decimals: the rest of a float32 says nothing."""
    return round(float(value), 6)


def _track_use(track: Track) -> TrackUse:
    return TrackUse(used=track.used, reason=track.reason, detail=track.detail)
