"""POST /v1/classify as a client sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.toy import CLASSES

Clips = dict[str, Path]


def test_the_right_name_comes_first(client: TestClient, clips: Clips) -> None:
    """Both tracks together decide; the worked-out distance of the right class is almost nothing."""
    body = classify(client, clips["blue high"], labels=CLASSES, calibration="off").json()
    best = body["predictions"][0]
    assert best["label"] == "blue with a high tone"
    assert best["rank"] == 1
    assert not best["seen"]
    assert best["distance"] < 0.2
    assert [one["rank"] for one in body["predictions"]] == list(range(1, 10))
    assert sum(one["score"] for one in body["predictions"]) == pytest.approx(1, abs=1e-5)
    assert body["bundle"] == "toy"
    assert body["n_labels"] == 9
    assert body["tracks"]["visual"]["used"]
    assert body["tracks"]["audio"]["used"]
    assert {"upload", "wait", "decode", "encode", "labels", "rank", "total"} == set(body["timings_ms"])


def test_key_frames_when_they_are_asked_for(client: TestClient, clips: Clips) -> None:
    """A clip of one colour looks the same at them; anything else is refused with what there is."""
    by_key = classify(client, clips["blue high"], labels=CLASSES, frames="key").json()
    assert by_key["predictions"][0]["label"] == "blue with a high tone"
    refused = classify(client, clips["blue high"], labels=CLASSES, frames="first")
    assert refused.status_code == 422
    assert "frames must be exact, or key" in refused.json()["detail"]


def test_each_track_alone_is_scored_too(client: TestClient, clips: Clips) -> None:
    """The picture alone can't tell the tone, and says so by equal scores."""
    body = classify(client, clips["blue high"], labels=CLASSES).json()
    by_label = {one["label"]: one for one in body["predictions"]}
    high, low = by_label["blue with a high tone"], by_label["blue with a low tone"]
    assert high["visual"]["similarity"] == pytest.approx(low["visual"]["similarity"])
    assert high["audio"]["score"] > 100 * low["audio"]["score"]


def test_the_answer_is_the_same_every_time(client: TestClient, clips: Clips) -> None:
    """Whatever the file is called and whatever was asked before."""
    first = classify(client, clips["red low"], labels=CLASSES).json()["predictions"]
    classify(client, clips["blue high"], labels=["blue", "something else"])
    assert classify(client, clips["red low"], labels=CLASSES).json()["predictions"] == first


def test_order_of_labels_does_not_matter(client: TestClient, clips: Clips) -> None:
    """A label's place in the request is no evidence."""
    one = classify(client, clips["red low"], labels=CLASSES).json()["predictions"]
    other = classify(client, clips["red low"], labels=CLASSES[::-1]).json()["predictions"]
    assert one[0]["label"] == other[0]["label"] == "red with a low tone"
    assert {p["label"]: p["distance"] for p in one} == {p["label"]: p["distance"] for p in other}


def test_calibration_moves_seen_classes_back(client: TestClient, clips: Clips) -> None:
    """A large beta puts every unseen class before the seen one that is right."""
    body = classify(client, clips["red low"], labels=CLASSES, calibration="100").json()
    assert [one["seen"] for one in body["predictions"]] == [False] * 5 + [True] * 4
    assert body["calibration"] == 100


def test_a_clip_without_sound_says_so(client: TestClient, clips: Clips) -> None:
    """It is answered from the picture."""
    body = classify(client, clips["green"], labels=CLASSES, top_k="3").json()
    assert {one["label"].split()[0] for one in body["predictions"]} == {"green"}
    assert body["tracks"]["audio"] == {"used": False, "reason": "no_stream", "detail": "no audio stream"}
    assert body["predictions"][0]["audio"] is None
    assert body["predictions"][0]["visual"] is not None
    assert any("sound" in warning for warning in body["warnings"])


def test_a_clip_without_picture_says_so(client: TestClient, clips: Clips) -> None:
    """It is answered from the sound."""
    body = classify(client, clips["middle"], labels=CLASSES, top_k="3").json()
    assert {one["label"].split()[3] for one in body["predictions"]} == {"middle"}
    assert not body["tracks"]["visual"]["used"]
    assert any("picture" in warning for warning in body["warnings"])


def test_another_bundle_and_own_templates(client: TestClient, clips: Clips) -> None:
    """Both are chosen by the request; a template may even change the winner."""
    body = classify(client, clips["red low"], labels=["red", "blue"], bundle="other").json()
    assert (body["bundle"], body["predictions"][0]["label"]) == ("other", "red")
    turned = classify(
        client, clips["red low"], labels=["filler1", "filler2"], templates=["{} red low"]
    ).json()
    assert turned["predictions"][0]["distance"] < 0.2


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "empty_file"),
        (b"hello, this is only text " * 20, 415, "not_media"),
        (b"ffconcat version 1.0\nfile clip\n", 415, "not_media"),
        (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", 415, "not_media"),
    ],
)
def test_files_that_are_no_clips(client: TestClient, content: bytes, status: int, code: str) -> None:
    """A clear problem with a stable code, and never a 5xx."""
    response = classify(client, content, labels=["dog"])
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 422, "no_labels"),
        ({"labels": ""}, 422, "invalid_label"),
        ({"labels": ["dog", "DOG"]}, 422, "duplicate_labels"),
        ({"labels": ["cafe\u0301", "caf\u00e9"]}, 422, "duplicate_labels"),
        ({"labels": "dog,cat"}, 422, "ambiguous_labels"),
        ({"labels": [f"label {i}" for i in range(51)]}, 422, "too_many_labels"),
        ({"labels": [f"label {i}" for i in range(200)]}, 422, "too_many_labels"),
        ({"label_set": "nowhere"}, 404, "unknown_label_set"),
        ({"label_set": "a\0"}, 422, "invalid_name"),
        ({"label_set": "x" * 100_000}, 422, "invalid_name"),
        ({"labels": "dog", "bundle": "nope"}, 404, "unknown_bundle"),
        ({"labels": "dog", "top_k": "0"}, 422, "invalid_option"),
        ({"labels": "dog", "templates": "no placeholder"}, 422, "invalid_template"),
        ({"labels": "x" * 300_000}, 413, "body_too_large"),
    ],
)
def test_unacceptable_fields(
    client: TestClient, clips: Clips, fields: dict[str, object], status: int, code: str
) -> None:
    """Each has its own stable code."""
    response = classify(client, clips["red low"], **fields)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert len(response.json()["detail"]) < 1000


def test_an_upload_over_the_limit_is_refused(client: TestClient) -> None:
    """By its declared size, and by its real size when none is declared."""
    response = classify(client, b"\0" * 2_100_000, labels=["dog"])
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")

    def stream() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="c"\r\n\r\n'
        for _ in range(30):
            yield b"\0" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/v1/classify", content=stream(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert "request_id" in response.json()


def test_problems_carry_the_request_id(client: TestClient) -> None:
    """The client's own id comes back, unless it could break a log line."""
    response = client.post("/v1/classify", headers={"X-Request-ID": "mine-1"})
    assert response.headers["X-Request-ID"] == response.json()["request_id"] == "mine-1"
    response = client.get("/nowhere", headers={"X-Request-ID": "a b"})
    assert response.headers["X-Request-ID"] == response.json()["request_id"] != "a b"
    assert response.json()["code"] == "not_found"


def test_limits_of_the_deployment_are_kept(toy_bundle: Path, clips: Clips, tmp_path: Path) -> None:
    """A clip that is longer than allowed is refused with its own code, and the limit is in /v1/info."""
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, decode_workers=1, max_duration_s=0.5)
    with TestClient(create_app(settings)) as client:
        response = classify(client, clips["red low"], labels=["red"])
        assert client.get("/v1/info").json()["limits"]["max_duration_s"] == 0.5
    assert (response.status_code, response.json()["code"]) == (422, "clip_too_long")


def test_nothing_is_left_on_disk(toy_bundle: Path, clips: Clips, tmp_path: Path) -> None:
    """The upload's directory is empty after success and after failure."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, upload_dir=uploads, decode_workers=1)
    with TestClient(create_app(settings)) as client:
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
        assert classify(client, b"nonsense", labels=["red"]).status_code == 415
        assert classify(client, clips["red low"]).status_code == 422
    assert list(uploads.iterdir()) == []


def test_too_many_names_are_refused_before_any_is_normalised(
    client: TestClient, clips: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million names must not cost the time of normalising a million names."""
    monkeypatch.setattr("service.api.question.make_label", lambda _: pytest.fail("a name was normalised"))
    most = client.get("/v1/info").json()["limits"]["max_labels"]
    response = classify(client, clips["red low"], labels=json.dumps(["a"] * (most + 1)))
    assert (response.status_code, response.json()["code"]) == (422, "too_many_labels")


@pytest.mark.parametrize(("n_places", "status"), [(4, 200), (5, 422)])
def test_a_template_has_room_for_few_names(
    client: TestClient, clips: dict[str, Path], n_places: int, status: int
) -> None:
    """A form of 31 KB with 64 templates of 246 placeholders once took 752 MB for one name."""
    response = classify(client, clips["red low"], labels="red", templates="{} " * n_places)
    assert response.status_code == status
    if status != 200:
        assert response.json()["code"] == "invalid_template"
        assert "has 5 placeholders {}; at most 4" in response.json()["detail"]


def test_more_text_than_allowed_is_refused_before_it_is_put_together(
    toy_bundle: Path, clips: dict[str, Path], tmp_path: Path
) -> None:
    """By the request's templates, by prompts of a label set and by what is added to it, with the numbers."""
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, max_prompt_characters=24)
    with TestClient(create_app(settings)) as client:
        fits = classify(client, clips["red low"], labels='["red", "blue"]', templates="a {}{} ")
        assert fits.status_code == 200  # (1 + 1) x 2 + 2 x (3 + 4) = 18
        long = classify(client, clips["red low"], labels='["red", "blue"]', templates="a rather long {}")
        assert (long.status_code, long.json()["code"]) == (422, "too_much_text")
        assert "prompts of 35 characters together; at most 24" in long.json()["detail"]
        full = {"labels": [{"name": "red", "prompts": ["one that is {} and"]}]}
        assert client.put("/v1/label-sets/s", json=full).status_code == 201  # 3 + 19
        assert classify(client, clips["red low"], label_set="s").status_code == 200
        for response in (
            client.put("/v1/label-sets/s", json={"labels": [{"name": "red", "prompts": ["x" * 23]}]}),
            client.post("/v1/label-sets/s/labels", json={"labels": ["blue"]}),
        ):
            assert (response.status_code, response.json()["code"]) == (422, "too_much_text")
            assert "would have 26 characters" in response.json()["detail"]
