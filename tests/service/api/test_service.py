"""The addresses around classify, and laws that hold for all of them."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service import errors
from service.access.key_ring import KeyRing
from service.access.sqlite import SqliteKeyStore
from service.api import app as app_module
from service.api.app import create_app
from service.api.problems import STATUS
from service.api.prometheus import Metrics
from service.decode.pool import DecodePool
from service.jobs.sqlite.store import SqliteJobStore
from service.labels.sqlite.store import SqliteLabelStore
from service.settings import Settings
from tests.service.api.conftest import classify, wait_until_tried
from tests.service.api.guard.guarded import Make, asked
from tests.service.api.jobs_client import ended, post_job
from tests.toy import CLASSES, write_toy_bundle


def test_health(client: TestClient) -> None:
    """KServe's paths."""
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}


def test_models_and_info(client: TestClient) -> None:
    """What is loaded, in the shape of OpenAI's list; the first is the default."""
    models = client.get("/v1/models").json()
    assert models["object"] == "list"
    assert [(model["id"], model["default"]) for model in models["data"]] == [("toy", True), ("other", False)]
    assert client.get("/v1/models/toy").json()["seen_classes"] == CLASSES[:4]
    assert client.get("/v1/models/nope").json()["code"] == "unknown_bundle"
    info = client.get("/v1/info").json()
    assert (info["default_bundle"], info["limits"]["max_labels"]) == ("toy", 50)


def test_metrics_count_requests_by_route(client: TestClient, clips: dict[str, Path]) -> None:
    """By the route's pattern: what clients write into an address must not become a metric."""
    classify(client, clips["red low"], labels=["red", "blue"])
    client.get("/v1/label-sets/some-name")
    text = client.get("/metrics").text
    assert 'ahse_requests_total{method="POST",route="/v1/classify",status="200"}' in text
    assert 'route="/v1/label-sets/{name}",status="404"' in text
    assert 'ahse_step_seconds_count{step="decode"}' in text
    assert "some-name" not in text


def test_refused_requests_are_counted_but_not_timed() -> None:
    """They take no time, so under overload the times of answers would seem to become shorter."""
    metrics = Metrics()
    for status in (200, 401, 403, 422, 429):
        metrics.request("POST", "/v1/classify", status, 1.0)
    text = metrics.text().decode()
    assert text.count('ahse_requests_total{method="POST"') == 5
    assert 'ahse_request_seconds_count{route="/v1/classify"} 2.0' in text


def test_clips_of_jobs_are_counted_from_0() -> None:
    """Of a series that begins with 1 Prometheus sees no increase: the first clip would not count."""
    text = Metrics().text().decode()
    assert 'ahse_job_clips_total{outcome="answer"} 0.0' in text
    assert 'ahse_job_clips_total{outcome="problem"} 0.0' in text


def test_a_known_label_is_not_encoded_again(client: TestClient, clips: dict[str, Path]) -> None:
    """The counter of cache misses stands still the second time."""

    def misses() -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(
            next(line for line in lines if line.startswith('ahse_labels_total{cache="miss"}')).split()[1]
        )

    classify(client, clips["red low"], labels=["warm one", "warm two"])
    before = misses()
    classify(client, clips["blue high"], labels=["warm two", "warm one"])
    assert misses() == before
    classify(client, clips["red low"], labels=["warm one"], bundle="other")
    assert misses() == before + 1


def _counts(app: Any) -> dict[str, float]:
    """What the metrics of an app count, by the text of each series."""
    text = app.state.context.metrics.text().decode()
    counts = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in counts}


def test_names_of_several_clips_are_counted_once(make: Make, clips: dict[str, Path]) -> None:
    """Also where the first clip is damaged. So is each step up to the names; the others are for each clip."""
    app = make()
    with asked(app) as client:
        parts = [("files", content) for content in (b"no clip" * 50, *[clips["red low"].read_bytes()] * 2)]
        answer = client.post("/v1/classify", files=parts, data={"labels": ["one", "two"]})
        counts = _counts(app)
    assert [line.count('"predictions"') for line in answer.text.splitlines()] == [0, 1, 1]
    assert [counts[f'ahse_labels_total{{cache="{cache}"}}'] for cache in ("miss", "hit")] == [2, 0]
    steps = ("upload", "wait", "labels", "rank", "total")
    assert [counts[f'ahse_step_seconds_count{{step="{step}"}}'] for step in steps] == [1, 1, 1, 2, 2]


def test_names_of_each_clip_of_a_job_are_counted(make: Make, clips: dict[str, Path]) -> None:
    """A damaged first one encodes names too, of which the next one then knows all."""
    app = make()
    with asked(app) as client:
        job = post_job(client, b"no clip" * 50, clips["red low"], labels=["one", "two"]).json()
        assert ended(client, job)["n_failed"] == 1
        counts = _counts(app)
    assert [counts[f'ahse_labels_total{{cache="{cache}"}}'] for cache in ("miss", "hit")] == [2, 2]


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embeddings", "/v1/jobs"])
def test_refused_uploads_are_counted_at_their_address(make: Make, path: str) -> None:
    """Though no route was chosen yet."""
    app = make(max_upload_bytes=1000, max_job_bytes=1000)
    with asked(app) as client:
        assert client.post(path, content=bytes(1001)).status_code == 413
    assert _counts(app)[f'ahse_requests_total{{method="POST",route="{path}",status="413"}}'] == 1


def test_a_bundle_is_replaced_between_two_requests(tmp_path: Path, clips: dict[str, Path]) -> None:
    """Labels are embedded anew by the new bundle; a damaged one is refused and the old one stays."""
    directory = write_toy_bundle(tmp_path / "toy", version="1")
    with TestClient(create_app(Settings(bundles=(directory,), data_dir=tmp_path / "data"))) as client:
        client.put("/v1/label-sets/s", json={"labels": ["red", "blue"]})
        one = classify(client, clips["red low"], label_set="s").json()
        write_toy_bundle(directory, version="2", temperature=5.0)
        assert client.post("/v1/models/toy/reload").json()["version"] == "2"
        two = classify(client, clips["red low"], label_set="s").json()
        (directory / "audio.onnx").unlink()
        refused = client.post("/v1/models/toy/reload")
        three = classify(client, clips["red low"], label_set="s").json()
    assert (one["bundle_version"], two["bundle_version"], three["bundle_version"]) == ("1", "2", "2")
    assert two["predictions"][0]["score"] < one["predictions"][0]["score"]
    assert three["predictions"] == two["predictions"]
    assert (refused.status_code, refused.json()["code"]) == (409, "bundle_invalid")
    assert str(tmp_path) not in refused.text


def test_every_documented_address_answers_every_method_without_5xx(client: TestClient) -> None:
    """Empty requests to everything in the OpenAPI document, with any method."""
    document = client.get("/openapi.json").json()
    assert "/v1/classify" in document["paths"]
    for path in [*document["paths"], "/", "/v1", "/v1/classify/"]:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            response = client.request(method, path.replace("{", "").replace("}", ""))
            assert response.status_code < 500, (method, path)
            if response.status_code >= 400:
                assert response.headers["content-type"] == "application/problem+json", (method, path)
                assert response.json()["code"]


def test_something_unforeseen_is_a_fixed_text(toy_bundle: Path, tmp_path: Path) -> None:
    """The cause goes to the log, not to the client; the id is in both."""
    with TestClient(create_app(Settings(bundles=(toy_bundle,), data_dir=tmp_path))) as client:
        wait_until_tried(client.app)
        client.app.state.context.registry.get = lambda *_: 1 / 0  # type: ignore[attr-defined]
        with capture_logs([merge_contextvars]) as logged:
            response = client.get("/v1/models/toy", headers={"X-Request-ID": "mine"})
    causes = [record for record in logged if record.get("exc_info")]
    assert [(record["log_level"], record["request_id"]) for record in causes] == [("error", "mine")]
    assert response.status_code == 500
    assert response.json()["code"] == "internal_error"
    assert "division" not in response.text
    assert response.headers["X-Request-ID"] == "mine"


def _leaves(kind: type[errors.AhseError]) -> list[type[errors.AhseError]]:
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    below = [leaf for child in children for leaf in _leaves(child)]
    return below or [kind]


@pytest.mark.parametrize("kind", _leaves(errors.AhseError))
def test_every_error_has_a_status_and_a_code_of_its_own(kind: type[errors.AhseError]) -> None:
    """A new error that is not in the table fails here, not at a user's."""
    assert kind in STATUS
    assert [leaf.code for leaf in _leaves(errors.AhseError)].count(kind.code) == 1


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/classify", "POST"),
        ("/v1/label-sets/x", "DELETE, GET, PUT"),
        ("/v1/label-sets/x/labels", "POST"),
        ("/v2/health/live", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_a_method_that_is_not_answered_is_told_all_that_are(
    client: TestClient, path: str, methods: str
) -> None:
    """`Allow` has the methods of all routes at the address (RFC 9110, 15.5.6)."""
    response = client.patch(path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) == set(methods.split(", "))


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_answers_head(client: TestClient, path: str) -> None:
    """Some load balancers ask so."""
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")


def test_made_up_methods_share_one_name_in_metrics_and_log(client: TestClient) -> None:
    """10,000 of them once made 2.6 MB of metrics, and each as long a line of the log as its sender liked."""
    with capture_logs() as logged:
        for i in range(3):
            assert client.request(f"MADEUP{i}", "/v1/info").status_code == 405
    text = client.get("/metrics").text
    assert "MADEUP" not in text
    assert 'method="_OTHER",route="/v1/info",status="405"} 3.0' in text
    assert [line["method"] for line in logged] == ["_OTHER"] * 3


def test_what_was_opened_is_closed_where_a_later_part_fails(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one first: the decoders, the jobs, the label sets, the uploads, and at last the keys."""
    closed: list[type] = []

    def recording(part: type, close: Callable[[Any], object]) -> Callable[[Any], None]:
        def record(self: Any) -> None:
            closed.append(part)
            close(self)

        return record

    parts = (DecodePool, SqliteJobStore, SqliteLabelStore, KeyRing, SqliteKeyStore)
    for part in parts:
        monkeypatch.setattr(part, "close", recording(part, part.close))
    monkeypatch.setattr(app_module, "HealthMonitor", lambda *_: 1 / 0)
    (tmp_path / "uploads").mkdir()
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path / "data", upload_dir=tmp_path / "uploads")
    with pytest.raises(ZeroDivisionError):
        create_app(settings)
    assert tuple(closed) == parts
    assert not list((tmp_path / "uploads").iterdir())


@pytest.mark.parametrize(("gone", "part"), [("uploads", "uploads"), ("data", "label store")])
def test_a_service_that_lost_its_folders_is_not_ready(
    toy_bundle: Path, tmp_path: Path, gone: str, part: str
) -> None:
    """A deleted data directory takes writes and loses them; the part is named, and the process is live."""
    for folder in ("uploads", "data"):
        (tmp_path / folder).mkdir()
    settings = Settings(
        bundles=(toy_bundle,),
        data_dir=tmp_path / "data",
        upload_dir=tmp_path / "uploads",
        health_interval_s=0.01,
    )
    with TestClient(create_app(settings)) as client:
        wait_until_tried(client.app)
        assert client.get("/v2/health/ready").status_code == 200
        shutil.rmtree(tmp_path / gone)
        while f" {part}: " not in (response := client.get("/v2/health/ready")).text:
            assert response.status_code in (200, 503)
        assert (response.status_code, response.json()["code"]) == (503, "not_ready")
        assert response.headers["Retry-After"]
        assert str(tmp_path) not in response.text
        assert client.get("/v2/health/live").status_code == 200


def test_a_full_disk_is_no_fault_of_the_decoder(toy_bundle: Path, tmp_path: Path) -> None:
    """Which could not be tried, and says so."""
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, health_interval_s=0.01)
    with TestClient(create_app(settings)) as client, pytest.MonkeyPatch.context() as broken:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        broken.setattr(Path, "write_bytes", full)
        while " decoder: could not be tried" not in (response := client.get("/v2/health/ready")).text:
            assert "decoder: does not work" not in response.text
