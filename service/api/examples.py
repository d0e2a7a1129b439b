"""Examples of answers, as the OpenAPI document shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_USED = {"used": True, "reason": None}
_AGREEMENT = {"score": 0.912, "visual": "bead with a harp", "audio": "bead with a harp", "surer": "audio"}
_TRACKS = {
    "visual": {**_USED, "detail": "h264 512x288"},
    "audio": {**_USED, "detail": "aac 44100 Hz"},
    "agreement": _AGREEMENT,
}
_PREDICTIONS = [
    {
        "rank": 1,
        "label": "bead with a harp",
        "score": 0.999656,
        "distance": 4.532873,
        "seen": False,
        "visual": {"similarity": 0.705484, "score": 0.509004},
        "audio": {"similarity": 0.690115, "score": 0.991316},
    },
    {
        "rank": 2,
        "label": "bead with a bell",
        "score": 0.000341,
        "distance": 8.387483,
        "seen": False,
        "visual": {"similarity": 0.703068, "score": 0.487965},
        "audio": {"similarity": 0.387381, "score": 0.004609},
    },
]
_SET = {
    "name": "mine",
    "n_labels": 2,
    "templates": None,
    "guarantee": 0.9,
    "etag": "0f4c6a0f1d2b3e4f5a6b7c8d9e0f1a2b",
    "created": "2026-11-25T09:00:00Z",
    "updated": "2026-11-25T09:30:00Z",
}
_MODEL = {
    "id": "demo",
    "object": "model",
    "created": 1764000000,
    "owned_by": "ahse",
    "version": "1.2.0",
    "description": "A made-up world of shapes and sounds, to try the service with; knows nothing else.",
    "notice": "On real clips its answers mean nothing.",
    "digest": "b0233a0250fb5ec74253aee221e0c42cd7fe845c7c3239c99fdb9d1a70eb3be4",
    "default": True,
    "provider": "CPUExecutionProvider",
    "seen_classes": ["disc with a bell"],
    "metrics": [{"name": "HM, both tracks", "value": 94.5, "unit": "percent", "data": "demo test"}],
}
_JOB = {
    "id": "job_018f2a6c1b7e5d0c9a4f3e2b4d6f",
    "state": "running",
    "n_clips": 2,
    "n_done": 1,
    "n_failed": 0,
    "progress": 0.5,
    "created": "2026-11-25T09:30:00Z",
    "started": "2026-11-25T09:30:01Z",
    "ended": None,
    "expires": None,
    "webhook": None,
    "links": {
        "self": "/v1/jobs/job_018f2a6c1b7e5d0c9a4f3e2b4d6f",
        "results": "/v1/jobs/job_018f2a6c1b7e5d0c9a4f3e2b4d6f/results",
        "events": "/v1/jobs/job_018f2a6c1b7e5d0c9a4f3e2b4d6f/events",
    },
}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "ClassifyResponse": {
        "id": "7d0f3a9c2b1e4d5f6a7b8c9d",
        "bundle": "demo",
        "bundle_version": "1.2.0",
        "bundle_notice": "On real clips its answers mean nothing.",
        "label_set": None,
        "n_labels": 2,
        "predictions": _PREDICTIONS,
        "tracks": _TRACKS,
        "unknown": 0.007501,
        "guarantee": {
            "level": 0.9,
            "labels": ["bead with a harp"],
            "holds_for": "clips with picture and sound whose right name is in the list, as far as clips and "
            "names are like those that it was measured on (validation clips of demo: 120 of 18 classes new "
            "to the bundle), in lists of 2 to 18 names.",
        },
        "receipt": {
            "clip_sha256": "4f1c0f1d7a0e2f5c7d9e4b6a8c3d5e7f9a1b3c5d7e9f0a2b4c6d8e0f1a3b5c7d",
            "frame_times_s": [0.27, 0.82, 1.37, 1.92, 2.47, 3.02, 3.57, 4.12],
            "audio_windows_s": [[0.0, 2.0], [2.0, 4.0], [2.389, 4.389]],
        },
        "duration_s": 4.4,
        "calibration": 1.6,
        "segments": [
            {
                "start_s": 0.0,
                "end_s": 4.4,
                "predictions": _PREDICTIONS[:1],
                "tracks": _TRACKS,
                "unknown": 0.007501,
                "receipt": {
                    "frame_times_s": [0.55, 1.65, 2.75, 3.85],
                    "audio_windows_s": [[0.0, 2.0], [2.0, 4.0], [2.389, 4.389]],
                },
            }
        ],
        "warnings": [],
        "timings_ms": {"upload": 1.9, "decode": 31.0, "encode": 22.5, "total": 61.2},
    },
    "JobBody": _JOB,
    "JobWithClips": {
        **_JOB,
        "clips": [
            {"index": 0, "name": "a.mp4", "state": "done"},
            {"index": 1, "name": "b.mp4", "state": "running"},
        ],
    },
    "JobPage": {"jobs": [_JOB], "next_cursor": None},
    "EmbeddingList": {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.12, -0.05, 0.33]}],
        "model": "everyday",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    },
    "LabelSet": {
        **_SET,
        "labels": [
            {"name": "dog", "prompts": []},
            {"name": "siren", "prompts": ["the wail of an ambulance siren"]},
        ],
    },
    "LabelSetSummary": _SET,
    "LabelSetPage": {"label_sets": [_SET], "next_cursor": None},
    "Model": _MODEL,
    "ModelWithCard": {**_MODEL, "card": "# Model card: the demo bundle"},
    "ModelList": {"object": "list", "data": [_MODEL]},
    "Info": {
        "name": "ahse",
        "version": "0.2.0.dev0",
        "default_bundle": "demo",
        "bundles": ["demo"],
        "limits": {
            "max_upload_bytes": 536870912,
            "max_json_bytes": 8388608,
            "max_files": 100,
            "max_labels": 10000,
            "max_labels_per_set": 100000,
            "max_duration_s": 600.0,
            "max_segments": 120,
        },
    },
}
"""By the names of the schemas."""
