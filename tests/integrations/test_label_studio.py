"""The ML backend with a real service and a stand-in for Label Studio, whose requests are those of 1.23."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from integrations.label_studio.backend import Backend, Choices, create_app
from integrations.label_studio.timeline import ConfigError, prediction, read_timeline
from integrations.label_studio.videos import VideoError, Videos
from service.client import AsyncClient, Prediction, Segment, Tracks, TrackUse

HERE = "http://label-studio.example:8080"
CONFIG = """<View>
  <!-- names -->
  <TimelineLabels name="what" toName="clip">
    <Label value="red  with a low tone"/>
    <Label value="blue with a high tone" alias="B"/>
    <Label value="green"/>
  </TimelineLabels>
  <Video name="clip" value="$video" frameRate="$fps"/>
</View>"""
BLUE = "blue with a high tone"
TOKEN = "0123456789abcdef"  # noqa: S105  (of no user)


class LabelStudio:
    """A stand-in: serves files to whoever sends the token, and remembers what it was asked.

    Args:
        files: Responses by path.
    """

    def __init__(self, files: dict[str, httpx2.Response]) -> None:
        self._files = files
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        self.asked.append(request)
        if request.url.path == "/api/token/refresh/":
            known = json.loads(request.content) == {"refresh": "a.personal.token"}
            return (
                httpx2.Response(200, json={"access": "short.lived.token"}) if known else httpx2.Response(401)
            )
        if request.headers.get("authorization") not in (f"Token {TOKEN}", "Bearer short.lived.token"):
            return httpx2.Response(401)
        return self._files.get(request.url.path, httpx2.Response(404))


Ask = Callable[..., httpx2.Response]


def _videos(label_studio: LabelStudio, token: str | None = TOKEN, max_bytes: int = 10_000_000) -> Videos:
    return Videos(HERE, token, max_bytes, httpx2.MockTransport(label_studio))


@pytest.fixture
def label_studio(changing: Path) -> LabelStudio:
    """Has one video that is good and one that is none."""
    return LabelStudio(
        {
            "/data/upload/1/changing.mp4": httpx2.Response(200, content=changing.read_bytes()),
            "/data/upload/1/letter.mp4": httpx2.Response(200, content=b"Dear reader"),
        }
    )


@pytest.fixture
def backend(service_url: str, label_studio: LabelStudio) -> Iterator[TestClient]:
    """The backend, which got no token at its start."""
    made = Backend(AsyncClient(service_url), _videos(label_studio, token=None), Choices(segment_s="1"))
    with TestClient(create_app(made)) as client:
        yield client


def _setup(backend: TestClient, **changed: Any) -> httpx2.Response:
    body = {"project": "1.1795675072", "schema": CONFIG, "hostname": HERE, "access_token": TOKEN}
    return backend.post("/setup", json=body | changed)


def _predict(backend: TestClient, *addresses: str) -> Any:
    tasks = [{"id": n, "data": {"video": one, "fps": "10"}} for n, one in enumerate(addresses)]
    body = {"tasks": tasks, "project": "1.1795675072", "label_config": CONFIG, "params": {"context": None}}
    return backend.post("/predict", json=body)


def test_videos_become_regions_of_frames(backend: TestClient) -> None:
    """Segments of a second are regions of several, named as results have them, in frames from 1."""
    version = _setup(backend).json()["model_version"]
    (found,) = _predict(backend, "/data/upload/1/changing.mp4").json()["results"]
    assert found["model_version"] == version
    values = [region["value"] for region in found["result"]]
    assert [(one["timelinelabels"], one["ranges"]) for one in values] == [
        (["red  with a low tone"], [{"start": 1, "end": 20}]),
        (["B"], [{"start": 21, "end": 40}]),
    ]
    assert {(r["from_name"], r["to_name"], r["type"]) for r in found["result"]} == {
        ("what", "clip", "timelinelabels")
    }
    assert all(0 < region["score"] <= 1 for region in found["result"])
    assert len({region["id"] for region in found["result"]}) == 2


def test_what_may_be_none_of_the_names_gets_a_region_on_request(
    service_url: str, label_studio: LabelStudio
) -> None:
    """The last two seconds are green and silent, which is not much like any of the names."""
    sure = Backend(AsyncClient(service_url), _videos(label_studio), Choices("1", max_unknown=1.0))
    with TestClient(create_app(sure)) as client:
        (found,) = _predict(client, "/data/upload/1/changing.mp4").json()["results"]
    assert found["result"][-1]["value"] == {
        "ranges": [{"start": 41, "end": 60}],
        "timelinelabels": ["green"],
    }


def test_one_bad_task_costs_no_other(backend: TestClient) -> None:
    """Its answer has no result, so nothing is stored for it, and the service's own reason."""
    _setup(backend)
    addresses = ("/data/upload/1/letter.mp4", "/data/upload/1/changing.mp4", "/data/upload/1/none.mp4", "")
    answer = _predict(backend, *addresses)
    bad, good, missing, empty = answer.json()["results"]
    assert answer.status_code == 200
    assert len(good["result"]) == 2
    assert bad["error"].startswith("This is not a clip that can be read")
    assert "result" not in bad
    assert "status 404" in missing["error"]
    assert "no video in its field 'video'" in empty["error"]


def test_another_host_gets_no_token_and_is_left_to_the_service(
    backend: TestClient, label_studio: LabelStudio
) -> None:
    """The service fetches URLs itself where it is allowed to; here it says how to allow it."""
    _setup(backend)
    label_studio._files["/tasks/1/resolve/"] = httpx2.Response(
        302, headers={"location": "https://bucket.example/clip.mp4"}
    )
    for address in ("https://elsewhere.example/clip.mp4", "/tasks/1/resolve/?fileuri=czM6Ly8"):
        (found,) = _predict(backend, address).json()["results"]
        assert "AHSE_URL_INPUT=1" in found["error"]
    assert {request.url.host for request in label_studio.asked} == {"label-studio.example"}


@pytest.mark.parametrize(
    ("address", "says"),
    [("s3://bucket/clip.mp4", "pre-signed"), ("file:///etc/passwd", "can't be downloaded")],
)
def test_other_schemes_are_refused(backend: TestClient, address: str, says: str) -> None:
    """Nothing is read from this machine's disk."""
    (found,) = _predict(backend, address).json()["results"]
    assert says in found["error"]


def test_the_token_of_another_host_is_not_believed(backend: TestClient, label_studio: LabelStudio) -> None:
    """Whatever host setup names, videos come from the Label Studio that was given at the start."""
    _setup(backend, hostname="http://evil.example", access_token="wrong")  # noqa: S106
    (found,) = _predict(backend, "/data/upload/1/changing.mp4").json()["results"]
    assert "LABEL_STUDIO_API_KEY" in found["error"]
    assert {request.url.host for request in label_studio.asked} == {"label-studio.example"}


def test_a_configuration_without_a_timeline_is_refused(backend: TestClient) -> None:
    """With what it needs."""
    answer = _setup(backend, schema='<View><Video name="v" value="$video"/></View>')
    assert answer.status_code == 400
    assert "<TimelineLabels>" in answer.json()["error"]


def test_the_version_changes_with_the_labels(backend: TestClient) -> None:
    """Label Studio asks again only for tasks without a prediction of the current version."""
    before = _setup(backend).json()["model_version"]
    assert _setup(backend).json()["model_version"] == before
    assert _setup(backend, schema=CONFIG.replace("green", "grey")).json()["model_version"] != before


def test_health_tells_of_the_service(backend: TestClient, label_studio: LabelStudio) -> None:
    """Up while it is ready, 503 within a second where it is not there."""
    assert backend.get("/health").json()["status"] == "UP"
    nowhere = Backend(AsyncClient("http://127.0.0.1:9"), _videos(label_studio), Choices())
    with TestClient(create_app(nowhere)) as client:
        answer = client.get("/health")
    assert answer.status_code == 503
    assert "can't be reached" in answer.json()["error"]


def test_tasks_that_take_too_long_are_given_up(service_url: str, label_studio: LabelStudio) -> None:
    """Label Studio would hang up after 100 s and lose all answers."""
    hurried = Backend(AsyncClient(service_url), _videos(label_studio), Choices(predict_s=0.0))
    with TestClient(create_app(hurried)) as client:
        (found,) = _predict(client, "/data/upload/1/changing.mp4").json()["results"]
    assert "fewer tasks" in found["error"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("POST", "/setup"), ("POST", "/predict")])
def test_a_login_is_needed_where_one_was_given(
    service_url: str, label_studio: LabelStudio, method: str, path: str
) -> None:
    """HTTP basic authentication, which Label Studio sends."""
    made = Backend(AsyncClient(service_url), _videos(label_studio), Choices())
    with TestClient(create_app(made, "ls", "secret")) as client:
        assert client.request(method, path).status_code == 401
        assert client.request(method, path, auth=("ls", "wrong")).status_code == 401
        assert client.get("/health", auth=("ls", "secret")).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_bodies_that_are_no_objects_are_refused(backend: TestClient, body: bytes) -> None:
    """With 400, not 500."""
    assert backend.post("/predict", content=body).status_code == 400


async def _fetch(videos: Videos, address: str) -> bytes | str:
    try:
        async with videos.fetch(address, None) as found:
            return found if isinstance(found, str) else found.read_bytes()
    finally:
        await videos.close()


def test_a_personal_access_token_is_exchanged(label_studio: LabelStudio, changing: Path) -> None:
    """Since Label Studio 1.20 other tokens are off unless an organisation allows them."""
    videos = _videos(label_studio, "a.personal.token")
    assert asyncio.run(_fetch(videos, "/data/upload/1/changing.mp4")) == changing.read_bytes()
    with pytest.raises(VideoError, match="make a new one"):
        asyncio.run(_fetch(_videos(label_studio, "another.personal.token"), "/data/upload/1/changing.mp4"))


def test_videos_are_bounded_and_pages_are_none(label_studio: LabelStudio) -> None:
    """A login page is not sent to the service, nor a file of any size."""
    page = httpx2.Response(200, html="<html>Log in</html>")
    with pytest.raises(VideoError, match="valid token"):
        asyncio.run(_fetch(_videos(LabelStudio({"/data/a.mp4": page})), "/data/a.mp4"))
    with pytest.raises(VideoError, match="larger than 10 bytes"):
        asyncio.run(_fetch(_videos(label_studio, max_bytes=10), "/data/upload/1/letter.mp4"))


@pytest.mark.parametrize(
    ("tag", "data", "rate"),
    [
        ("", {}, 24.0),
        ('frameRate="29.97"', {}, 29.97),
        ('framerate="25"', {}, 25.0),
        ('frameRate="0.04"', {}, 25.0),
        ('frameRate="$fps"', {"fps": 30}, 30.0),
        ('frameRate="$fps"', {}, 24.0),
        ('frameRate="-1"', {}, 24.0),
        ('frameRate="nan"', {}, 24.0),
    ],
)
def test_the_frame_rate_is_the_one_that_label_studio_uses(
    tag: str, data: dict[str, Any], rate: float
) -> None:
    """It takes the same defaults, and the same steps from text to number."""
    config = CONFIG.replace('frameRate="$fps"', tag)
    assert read_timeline(config).frames_per_s(data) == pytest.approx(rate)


@pytest.mark.parametrize("config", ["", "<View>", "<!DOCTYPE x [<!ENTITY a 'b'>]><View/>", " " * 1_000_001])
def test_configurations_that_are_no_xml_are_refused(config: str) -> None:
    """As are document types, whose entities grow without bound."""
    with pytest.raises(ConfigError):
        read_timeline(config)


def _segment(start_s: float, name: str | None, score: float = 0.8, unknown: float | None = 0.1) -> Segment:
    best = [] if name is None else [Prediction(1, name, score, 0.5, seen=False, visual=None, audio=None)]
    used = TrackUse(used=True, reason=None, detail="h264")
    return Segment(start_s, start_s + 1.0, tuple(best), Tracks(used, used, None), unknown)


def test_gaps_and_doubts_end_a_region() -> None:
    """Parts without picture and sound, and those that may be none of the names, belong to no region."""
    segments = [
        _segment(0, BLUE),
        _segment(1, BLUE, score=0.4, unknown=None),
        _segment(2, None, unknown=None),
        _segment(3, BLUE),
        _segment(4, BLUE, unknown=0.9),
        _segment(5, "green"),
    ]
    found = prediction(read_timeline(CONFIG), segments, 25.0, max_unknown=0.5)
    ranges = [region["value"]["ranges"][0] for region in found["result"]]
    assert [(one["start"], one["end"]) for one in ranges] == [(1, 50), (76, 100), (126, 150)]
    assert [region["score"] for region in found["result"]] == [0.6, 0.8, 0.8]
    assert found["score"] == pytest.approx((0.6 * 2 + 0.8 + 0.8) / 6)


def test_regions_of_a_slow_video_have_a_frame() -> None:
    """However few frames a second has."""
    found = prediction(read_timeline(CONFIG), [_segment(0.2, BLUE)], 1.0, max_unknown=0.5)
    assert found["result"][0]["value"]["ranges"] == [{"start": 1, "end": 1}]
