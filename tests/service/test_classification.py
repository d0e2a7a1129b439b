"""What the answer for one clip says besides the ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.classification import Classification, Ranked
from service.embed.embedder import LabelEmbedder
from service.encode.features import ClipFeatures
from service.encode.known_clips import EncodedClip
from service.labels.label import Candidates, make_label
from service.media import Clip, Track
from service.ranking import Ranking, TrackScores
from service.registry import load_bundle
from service.runtime.providers import Runtime

MISSING = Track(used=False, reason="no_stream", detail="no audio stream")


def _scores(*scores: float) -> TrackScores:
    return TrackScores(np.array(scores, np.float32), np.array(scores, np.float32))


def _classification(toy_bundle: Path, visual: TrackScores, audio: TrackScores | None) -> Classification:
    """Of a clip for which the head ranks `red` before `blue`."""
    bundle = load_bundle(toy_bundle, Runtime(device="cpu"))
    names = LabelEmbedder(10**6).embed(bundle, Candidates((make_label("red"), make_label("blue"))))
    ranking = Ranking(np.array([1, 2], np.float32), np.array([0.7, 0.3], np.float32), None)
    used = Track(used=True)
    clip = Clip(None, np.empty(0), None, 1.0, used, MISSING if audio is None else used)
    whole = Ranked(ranking, visual, audio, None, 0.0)
    encoded = EncodedClip(clip, ClipFeatures(None, None))
    return Classification(
        bundle,
        encoded,
        clip_sha256="",
        is_known=False,
        names=names,
        whole=whole,
        segments=(),
        guarantee=None,
        timings_ms={},
    )


def test_a_lone_track_that_disagrees_with_the_ranking_is_named(toy_bundle: Path) -> None:
    """Otherwise `visual.score` of the second name would be the higher one, for no reason that is given."""
    missing, disagrees = _classification(toy_bundle, _scores(0.4, 0.6), None).warnings
    assert missing == "Ranked by the picture alone; no sound was used: no audio stream."
    assert "'blue' would come first" in disagrees


@pytest.mark.parametrize(
    ("visual", "audio"),
    [(_scores(0.6, 0.4), None), (_scores(0.5, 0.5), None), (_scores(0.4, 0.6), _scores(1, 0))],
)
def test_tracks_that_agree_or_decide_together_are_not(
    toy_bundle: Path, visual: TrackScores, audio: TrackScores | None
) -> None:
    """A tie is no disagreement, and two tracks may differ."""
    assert not [one for one in _classification(toy_bundle, visual, audio).warnings if "come first" in one]
