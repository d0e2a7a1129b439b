"""Segments as a client sees them: clips whose colour and tone change, with every answer known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.toy import CLASSES, write_scenes, write_toy_bundle

OWN = {"id", "segments", "timings_ms", "warnings"}


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds: two red and low, two blue and high, two green and silent."""
    path = tmp_path_factory.mktemp("scenes") / "changing.mp4"
    return write_scenes(path, ["red", "blue", "green"], ["low", "high", None], seconds=2.0)


def _best(body: dict[str, Any]) -> list[str]:
    return [segment["predictions"][0]["label"] for segment in body["segments"]]


def test_each_segment_gets_its_own_right_name(client: TestClient, changing: Path) -> None:
    """And says what it was ranked by: a silent part by its picture alone, although the clip has sound."""
    body = classify(client, changing, labels=CLASSES, segment_s="2", calibration="off").json()
    assert _best(body)[:2] == ["red with a low tone", "blue with a high tone"]
    assert _best(body)[2].startswith("green")
    assert [(s["start_s"], round(s["end_s"], 1)) for s in body["segments"]] == [(0, 2), (2, 4), (4, 6)]
    assert body["segments"][-1]["end_s"] == body["duration_s"]
    silent = body["segments"][2]
    assert silent["tracks"]["audio"] == {"used": False, "reason": "silent", "detail": "digital silence"}
    assert silent["tracks"]["visual"]["used"]
    assert silent["predictions"][0]["audio"] is None
    assert [one["rank"] for one in silent["predictions"]] == [1, 2, 3, 4, 5]
    assert all(0 <= segment["unknown"] <= 1 for segment in body["segments"])
    receipts = [segment["receipt"] for segment in body["segments"]]
    assert [one["frame_times_s"] for one in receipts] == [
        [start + shown for shown in (0.2, 0.7, 1.2, 1.7)] for start in (0, 2, 4)
    ]
    windows = [[[start / 2, start / 2 + 0.5] for start in range(first, first + 4)] for first in (0, 4)]
    assert [one["audio_windows_s"] for one in receipts] == [*windows, []]  # nothing is heard of silence
    assert {"upload", "wait", "decode", "encode", "labels", "rank", "total"} == set(body["timings_ms"])


def test_the_rest_of_the_answer_is_the_same_without_segments(client: TestClient, changing: Path) -> None:
    """To the last digit, and there are no segments unless they are asked for."""
    plain = classify(client, changing, labels=CLASSES).json()
    assert plain["segments"] is None
    for segment_s in ("1", "2.5", "600", "auto"):
        body = classify(client, changing, labels=CLASSES, segment_s=segment_s).json()
        assert {k: v for k, v in body.items() if k not in OWN} == {
            k: v for k, v in plain.items() if k not in OWN
        }
        assert body["warnings"] == plain["warnings"]
        again = classify(client, changing, labels=CLASSES, segment_s=segment_s).json()
        assert again["segments"] == body["segments"]


def test_auto_is_the_window_of_the_sound_encoder(client: TestClient, changing: Path) -> None:
    """Half a second for the toy bundle: twelve segments, four of each scene."""
    body = classify(client, changing, labels=CLASSES, segment_s="auto", calibration="off").json()
    assert [segment["start_s"] for segment in body["segments"]] == [i / 2 for i in range(12)]
    assert [name.split()[0] for name in _best(body)] == ["red"] * 4 + ["blue"] * 4 + ["green"] * 4


def test_a_clip_of_one_track_has_segments_of_one_track(
    client: TestClient, clips: dict[str, Path], tmp_path: Path
) -> None:
    """Picture alone, sound alone, and sound with a silent part, which nothing is said about."""
    body = classify(client, clips["green"], labels=CLASSES, segment_s="auto").json()
    assert [name.split()[0] for name in _best(body)] == ["green"] * 2
    path = write_scenes(tmp_path / "a.mp4", [], ["low", None, "high"], seconds=2.0)
    body = classify(client, path, labels=CLASSES, segment_s="2", top_k="2").json()
    assert [[one["label"].split()[3] for one in s["predictions"]] for s in body["segments"]] == [
        ["low"] * 2,
        [],
        ["high"] * 2,
    ]
    assert body["segments"][1]["unknown"] is None
    assert body["segments"][1]["tracks"]["visual"]["reason"] == "no_stream"


def test_top_k_bounds_the_predictions_of_segments(client: TestClient, changing: Path) -> None:
    """As many as asked, five if nothing is asked, while the clip itself tells all."""
    body = classify(client, changing, labels=CLASSES, segment_s="2").json()
    assert [len(segment["predictions"]) for segment in body["segments"]] == [5, 5, 5]
    assert len(body["predictions"]) == 9
    body = classify(client, changing, labels=CLASSES, segment_s="2", top_k="7").json()
    assert [len(segment["predictions"]) for segment in body["segments"]] == [7, 7, 7]


@pytest.mark.parametrize("segment_s", ["0", "0.5", "601", "-1", "ten", ""])
def test_lengths_out_of_range_are_refused(client: TestClient, changing: Path, segment_s: str) -> None:
    """Before the clip is looked at."""
    response = classify(client, changing, labels=CLASSES, segment_s=segment_s)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "from 1 to 600" in response.json()["detail"]


def test_too_many_segments_are_refused_with_the_remedy(
    toy_bundle: Path, changing: Path, tmp_path: Path
) -> None:
    """The limit is a setting, in /v1/info, and the message names a length that works."""
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, decode_workers=1, max_segments=2)
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/info").json()["limits"]["max_segments"] == 2
        response = classify(client, changing, labels=["red"], segment_s="1")
        assert (response.status_code, response.json()["code"]) == (422, "too_many_segments")
        seconds = response.json()["detail"].split("Ask for segments of ")[1].split()[0]
        assert classify(client, changing, labels=["red"], segment_s=seconds).status_code == 200


def test_long_sound_is_heard_all_over(tmp_path: Path) -> None:
    """The toy bundle hears a minute for a clip as a whole, and not its first one."""
    bundle = write_toy_bundle(tmp_path / "toy")
    path = write_scenes(tmp_path / "long.mp4", [], ["low", "high", "high"], seconds=60.0)
    settings = Settings(bundles=(bundle,), data_dir=tmp_path, decode_workers=1)
    with TestClient(create_app(settings)) as client:
        body = classify(client, path, labels=["low", "high"], segment_s="30").json()
        middle = classify(client, path, labels=["low", "high"], audio_windows="1").json()
    assert body["predictions"][0]["label"] == "high"
    assert _best(body) == ["low", "low", "high", "high", "high", "high"]
    assert body["duration_s"] == pytest.approx(180, abs=0.1)
    assert "120 pieces of 0.5 seconds, spread evenly over it, were used for the clip as a whole" in " ".join(
        body["warnings"]
    )
    assert len(body["receipt"]["audio_windows_s"]) == 120
    assert middle["receipt"]["audio_windows_s"] == [pytest.approx([89.75, 90.25], abs=0.05)]


def test_middle_looks_at_the_frame_in_the_middle(tmp_path: Path) -> None:
    """One frame for the clip, and one for each segment, each in its middle."""
    bundle = write_toy_bundle(tmp_path / "middle", name="middle", middle=True)
    path = write_scenes(tmp_path / "five.mp4", ["red", "red", "green", "blue", "blue"], [], seconds=1.0)
    settings = Settings(bundles=(bundle,), data_dir=tmp_path, decode_workers=1)
    with TestClient(create_app(settings)) as client:
        body = classify(client, path, labels=["red", "green", "blue"], segment_s="1").json()
    assert body["predictions"][0]["label"] == "green"
    assert body["predictions"][0]["visual"]["similarity"] > 0.99
    assert _best(body) == ["red", "red", "green", "blue", "blue"]
