"""Traces with the real SDK: kept in memory, and sent to a collector."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Self

import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.api import app as app_module
from service.errors import SettingsError
from service.settings import Settings
from service.tracing import OpenTelemetry, Tracing, open_tracing
from tests.service.api.conftest import classify
from tests.service.api.guard.guarded import Make
from tests.service.api.jobs_client import ended, post_job

ROOT = Path(__file__).resolve().parents[3]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
STEPS = {"labels", "decode", "encode", "rank"}

Traced = tuple[TestClient, InMemorySpanExporter]


@pytest.fixture
def traced(make: Make, monkeypatch: pytest.MonkeyPatch) -> Iterator[Traced]:
    """A service and the spans of its requests."""
    spans = InMemorySpanExporter()
    tracing = OpenTelemetry(SimpleSpanProcessor(spans))
    monkeypatch.setattr(app_module, "open_tracing", lambda _: tracing)
    with TestClient(make(allowed_hosts=("testserver",)), raise_server_exceptions=False) as client:
        yield client, spans


@dataclass(frozen=True)
class Seen:
    """What tests look at of a span."""

    ids: tuple[int, int]
    parent: int | None
    times: tuple[int, int]
    facts: dict[str, Any]
    failed: bool
    kind: SpanKind
    n_events: int

    @classmethod
    def of(cls, span: ReadableSpan) -> Self:
        """Of an ended span."""
        context = span.get_span_context()
        assert context is not None
        return cls(
            (context.trace_id, context.span_id),
            span.parent.span_id if span.parent else None,
            (span.start_time or 0, span.end_time or 0),
            dict(span.attributes or {}),
            span.status.status_code is StatusCode.ERROR,
            span.kind,
            len(span.events),
        )


def _by_name(spans: InMemorySpanExporter) -> dict[str, Seen]:
    return {span.name: Seen.of(span) for span in spans.get_finished_spans()}


def test_a_request_has_a_span_with_its_steps(traced: Traced, clips: dict[str, Path]) -> None:
    """In the trace of its header, one after the other, with counts."""
    client, spans = traced
    content = clips["red low"].read_bytes()
    client.post(
        "/v1/classify",
        files={"file": ("secret.mp4", content)},
        data={"labels": ["red", "blue"], "segment_s": "auto"},
        headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-ID": "mine"},
    )
    found = _by_name(spans)
    request = found.pop("POST /v1/classify")
    assert set(found) == STEPS
    assert request.kind is SpanKind.SERVER
    assert (request.ids[0], request.parent) == (int(TRACE, 16), int(PARENT, 16))
    assert request.facts == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "ahse.request_id": "mine",
    }
    for span in found.values():
        assert (span.ids[0], span.parent) == request.ids
        assert request.times[0] <= span.times[0] <= span.times[1] <= request.times[1]
    assert found["labels"].facts == {"ahse.n_labels": 2, "ahse.n_encoded": 2}
    assert found["decode"].facts["ahse.n_segments"] == 2
    in_order = [found[step].times[1] for step in ("labels", "decode", "encode", "rank")]
    assert in_order == sorted(in_order)


def test_log_lines_name_the_trace(traced: Traced) -> None:
    """So that one leads to the other."""
    client, _ = traced
    with capture_logs(processors=[merge_contextvars]) as lines:
        client.get("/v1/info", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert [line["trace_id"] for line in lines if line["event"] == "request"] == [TRACE]


def test_no_name_gets_into_a_span(traced: Traced, clips: dict[str, Path]) -> None:
    """Not of a label in a form, an address or an error, and not of a file."""
    client, spans = traced
    classify(client, clips["green"], labels=["sesame", "sesame"])
    client.put("/v1/label-sets/sesame", json={"labels": ["open sesame"]})
    client.delete("/v1/label-sets/sesame/labels/open%20sesame")
    client.get("/sesame?name=sesame")
    client.post("/v1/classify", files={"file": ("sesame.mp4", b"sesame")}, data={"labels": ["a", "sesame"]})
    told = [span.to_json() for span in spans.get_finished_spans()]
    assert len(told) > 5
    assert not any("sesame" in text for text in told)


def test_clips_of_jobs_have_traces_of_their_own(traced: Traced, clips: dict[str, Path]) -> None:
    """They outlive the request that brought them."""
    client, spans = traced
    ended(client, post_job(client, clips["red low"], labels=["red", "blue"]).json())
    found = _by_name(spans)
    clip = found["job clip"]
    assert clip.parent is None
    assert clip.ids[0] != found["POST /v1/jobs"].ids[0]
    assert {(found[step].ids[0], found[step].parent) for step in STEPS} == {clip.ids}


def test_errors_are_named_by_their_code(traced: Traced) -> None:
    """What the client did wrong is no failure of the service's span; the step that failed is one."""
    client, spans = traced
    classify(client, b"Dear reader", labels=["a", "b"])
    found = _by_name(spans)
    assert found["POST /v1/classify"].facts["error.type"] == "not_media"
    assert not found["POST /v1/classify"].failed
    assert found["decode"].facts["error.type"] == "not_media"
    assert found["decode"].failed
    assert "encode" not in found


def test_a_fault_of_the_service_fails_its_span(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing of the exception."""
    client, spans = traced
    store = client.app.state.context.store  # type: ignore[attr-defined]  # FastAPI's
    monkeypatch.setattr(type(store), "page", lambda *_: 1 / 0)
    with capture_logs():
        assert client.get("/v1/label-sets").status_code == 500
    (span,) = _by_name(spans).values()
    assert span.failed
    assert span.facts["error.type"] == "internal_error"
    assert span.n_events == 0


def test_made_up_methods_share_one_name(traced: Traced) -> None:
    """That of OpenTelemetry; else spans would have as many names, and as long ones, as clients like."""
    client, spans = traced
    client.request("MADEUP", "/v1/info")
    (span,) = spans.get_finished_spans()
    assert span.name == "_OTHER /v1/info"
    assert (span.attributes or {})["http.request.method"] == "_OTHER"


def test_health_and_metrics_have_no_spans(traced: Traced) -> None:
    """Machines ask for them every few seconds."""
    client, spans = traced
    for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
        client.get(path)
    assert not spans.get_finished_spans()


@pytest.mark.parametrize("header", ["", "00-zz-11-01", "x" * 5000])
def test_a_wrong_traceparent_begins_a_new_trace(traced: Traced, header: str) -> None:
    """It is no fault of the request."""
    client, spans = traced
    assert client.get("/v1/info", headers={"traceparent": header}).status_code == 200
    (span,) = spans.get_finished_spans()
    assert span.parent is None


class _Collector(HTTPServer):
    """Takes traces as OTLP over HTTP."""

    def __init__(self) -> None:
        self.taken: list[ExportTraceServiceRequest] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805  (http.server calls it; self is the collector)
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                assert handler.path == "/v1/traces"
                self.taken.append(ExportTraceServiceRequest.FromString(body))
                handler.send_response(200)
                handler.end_headers()

            def log_message(handler, *_: object) -> None:  # noqa: N805
                """Nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def collector() -> Iterator[_Collector]:
    """On a port of its own."""
    with _Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_collector_gets_the_traces(
    make: Callable[..., FastAPI], collector: _Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard variables are enough, and what is left is sent at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "clips")
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")  # its spans would hold addresses
    with TestClient(make(allowed_hosts=("testserver",))) as client:
        client.get("/v1/info")
    (resource,) = [one for request in collector.taken for one in request.resource_spans]
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert named["service.name"] == "clips"
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["GET /v1/info"]


def test_traces_are_off_unless_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an endpoint or the setting; the setting wins, and says what to install."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert Settings().traces is None
    assert type(open_tracing(wanted=None)) is Tracing
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert type(open_tracing(wanted=False)) is Tracing
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert type(open_tracing(wanted=None)) is Tracing
    with pytest.raises(SettingsError, match=r"ahse\[otel\]"):
        open_tracing(wanted=True)


def test_nothing_of_the_sdk_is_imported_without_traces(toy_bundle: Path, tmp_path: Path) -> None:
    """The service works where the extra is not installed. FastAPI itself imports OpenTelemetry's API."""
    code = f"""
import sys
from pathlib import Path
from typing import Any, Self
from starlette.testclient import TestClient
from service.api.app import create_app
from service.settings import Settings
settings = Settings(bundles=(Path({str(toy_bundle)!r}),), data_dir=Path({str(tmp_path)!r}), decode_workers=1)
with TestClient(create_app(settings)) as client:
    assert client.get("/v1/info").status_code == 200
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
