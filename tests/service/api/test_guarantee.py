"""A promise about an answer, and whether picture and sound agree, as a client sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.bundle.guarantees import Guarantees, Limits
from service.bundle.head_specs import AgreementScore
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.toy import CLASSES, write_toy_bundle

Clips = dict[str, Path]
# Of the nine names those of the right colour and tone, of the right colour, and of the right tone score most.
LIMITS = Limits(
    tracks="both",
    kind="unseen",
    among="same",
    n_names=9,
    n_groups=20,
    n_clips=40,
    surprise=(*[0.5] * 31, *[6.2] * 14, *[None] * 5),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that has limits, and tells whether tracks agree."""
    return write_toy_bundle(
        tmp_path_factory.mktemp("promising") / "toy",
        agreement=AgreementScore(visual_temperature=0.1, audio_temperature=0.1, threshold=0, scale=1),
        guarantees=Guarantees(data="clips of tests", limits=(LIMITS,)),
    )


@pytest.fixture(scope="module")
def promising(bundle: Path) -> Iterator[TestClient]:
    """A service with it."""
    settings = Settings(bundles=(bundle,), data_dir=bundle.parent / "data", decode_workers=1)
    with TestClient(create_app(settings)) as running:
        yield running


def test_a_promise_keeps_few_names(promising: TestClient, clips: Clips) -> None:
    """The higher the promise, the more names."""
    low, high = (
        classify(promising, clips["blue high"], labels=CLASSES, guarantee=level).json()["guarantee"]
        for level in ("0.8", "0.9")
    )
    assert low["labels"] == ["blue with a high tone"]
    assert high["level"] == 0.9
    assert high["labels"][0] == "blue with a high tone"
    assert 1 < len(high["labels"]) < 9
    assert "clips of tests: 40 of 20 classes not trained on" in high["holds_for"]


def test_a_promise_does_not_depend_on_top_k(promising: TestClient, clips: Clips) -> None:
    """It is about all candidates."""
    whole, short = (
        classify(promising, clips["red low"], labels=CLASSES, guarantee="0.9", **more).json()
        for more in ({}, {"top_k": "1"})
    )
    assert whole["guarantee"] == short["guarantee"]
    assert len(short["predictions"]) == 1


def test_what_can_not_be_promised_excludes_nothing(promising: TestClient, clips: Clips) -> None:
    """More than the clips allow, longer lists, one track, and a bundle without limits."""
    too_high = classify(promising, clips["red low"], labels=CLASSES, guarantee="0.95").json()["guarantee"]
    assert too_high["labels"] is None
    assert "too few for 95%" in too_high["holds_for"]
    longer = classify(promising, clips["red low"], labels=[*CLASSES, "x"], guarantee="0.9").json()
    assert longer["guarantee"]["labels"] is None
    silent = classify(promising, clips["green"], labels=CLASSES, guarantee="0.9").json()
    assert silent["guarantee"]["labels"] is None


def test_what_was_measured_otherwise_is_told(promising: TestClient, clips: Clips) -> None:
    """Templates of one's own and key frames."""
    more = {"templates": "a clip of {}", "frames": "key"}
    found = classify(promising, clips["red low"], labels=CLASSES, guarantee="0.9", **more).json()["guarantee"]
    assert found["holds_for"].endswith("Not measured with templates of its own and key frames.")


def test_key_frames_that_nobody_asked_for_are_told_too(bundle: Path, clips: Clips, tmp_path: Path) -> None:
    """They are taken of a clip that is too large for others; also when its features are known."""
    few = Settings(bundles=(bundle,), data_dir=tmp_path, decode_workers=1, max_decoded_pixels=6 * 64 * 48)
    with TestClient(create_app(few)) as client:
        for _ in range(2):
            found = classify(client, clips["red low"], labels=CLASSES, guarantee="0.9").json()
            assert found["guarantee"]["holds_for"].endswith("Not measured with key frames.")


def test_without_limits_nothing_is_promised(client: TestClient, clips: Clips) -> None:
    """And without a request for one there is none."""
    found = classify(client, clips["red low"], labels=CLASSES, guarantee="0.9").json()
    assert found["guarantee"]["labels"] is None
    assert found["tracks"]["agreement"] is None
    assert classify(client, clips["red low"], labels=CLASSES).json()["guarantee"] is None


@pytest.mark.parametrize("value", ["0.3", "1", "0.995", "90%", "nan", "9e-1", ""])
def test_levels_that_are_none(promising: TestClient, clips: Clips, value: str) -> None:
    """The message says what would be."""
    refused = classify(promising, clips["red low"], labels=CLASSES, guarantee=value)
    assert refused.status_code == 422
    assert refused.json()["code"] == "invalid_option"
    assert "guarantee must be a number from 0.5 to 0.99" in refused.json()["detail"]


def test_a_promise_is_of_the_own_calibration(promising: TestClient, clips: Clips) -> None:
    """With another beta nothing was measured."""
    refused = classify(promising, clips["red low"], labels=CLASSES, guarantee="0.9", calibration="off")
    assert refused.status_code == 422
    assert "leave one of both out" in refused.json()["detail"]


def test_tracks_that_agree(promising: TestClient, clips: Clips) -> None:
    """The first labels of each track alone; names that one track can't tell apart keep their order."""
    body = classify(promising, clips["blue high"], labels=["red low", "blue high"]).json()
    agreement = body["tracks"]["agreement"]
    assert agreement["score"] > 0.6
    assert (agreement["visual"], agreement["audio"]) == ("blue high", "blue high")
    assert not any("seem to show different things" in one for one in body["warnings"])


def test_tracks_that_contradict_each_other(promising: TestClient, clips: Clips) -> None:
    """By names that each describe what only one track shows."""
    body = classify(promising, clips["blue high"], labels=["blue low", "red high"], segment_s="auto").json()
    agreement = body["tracks"]["agreement"]
    assert agreement["score"] < 0.1
    assert (agreement["visual"], agreement["audio"]) == ("blue low", "red high")
    warning = next(one for one in body["warnings"] if "seem to show different things" in one)
    assert "'blue low' comes first by the picture alone, 'red high' by the sound alone" in warning
    assert {one["tracks"]["agreement"]["score"] < 0.1 for one in body["segments"]} == {True}


def test_one_track_or_one_name_has_no_agreement(promising: TestClient, clips: Clips) -> None:
    """There is nothing to compare."""
    assert classify(promising, clips["green"], labels=CLASSES).json()["tracks"]["agreement"] is None
    assert classify(promising, clips["blue high"], labels=["x"]).json()["tracks"]["agreement"] is None
