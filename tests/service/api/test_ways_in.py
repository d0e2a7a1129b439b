"""Each way a clip may come to POST /v1/classify: raw, JSON, image, several; and each form of the answer."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.api.app import create_app
from service.api.intake.body import MAX_FILES
from service.cancellation import current_token
from service.classification import Classification
from service.classifier import Classifier
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.service.api.guard.guarded import Make
from tests.toy import CLASSES, COLOURS

Clips = dict[str, Path]
VOLATILE = {"id", "timings_ms"}


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return {k: v for k, v in one.items() if k not in VOLATILE} == {
        k: v for k, v in other.items() if k not in VOLATILE
    }


def _image(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), COLOURS[colour]).save(out, "PNG")
    return out.getvalue()


def _lines(response: Any) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in response.text.splitlines()]


def _send_all(client: TestClient, *contents: bytes, **fields: Any) -> Any:
    parts = [("files", ("clip", content)) for content in contents]
    return client.post("/v1/classify", files=parts, data=fields)


def test_every_way_gives_the_same_answer(client: TestClient, clips: Clips) -> None:
    """Raw with a query, and JSON, as a form does."""
    content = clips["blue high"].read_bytes()
    form = classify(client, content, labels=CLASSES, top_k="3").json()
    raw = client.post(
        "/v1/classify",
        params={"labels": CLASSES, "top_k": 3},
        content=content,
        headers={"Content-Type": "video/mp4"},
    )
    body = {"file": base64.b64encode(content).decode(), "labels": CLASSES, "top_k": 3}
    in_json = client.post("/v1/classify", json=body)
    assert form["predictions"][0]["label"] == "blue with a high tone"
    assert _same(raw.json(), form)
    assert _same(in_json.json(), form)


def test_the_rules_for_labels_hold_in_every_way(client: TestClient, clips: Clips) -> None:
    """A comma in the one value of a query is questioned; in a JSON list it is part of a name."""
    content = clips["red low"].read_bytes()
    headers = {"Content-Type": "application/octet-stream"}
    sent = client.post("/v1/classify?labels=red,blue", content=content, headers=headers)
    assert (sent.status_code, sent.json()["code"]) == (422, "ambiguous_labels")
    body = {"file": base64.b64encode(content).decode(), "labels": ["red, low"]}
    assert client.post("/v1/classify", json=body).json()["predictions"][0]["label"] == "red, low"
    twice = client.post("/v1/classify?bundle=toy", json=body | {"bundle": "toy"})
    assert (twice.status_code, twice.json()["code"]) == (422, "invalid_option")


def test_a_json_body_over_its_limit_is_told_the_other_ways(client: TestClient) -> None:
    """The limit is that of other JSON, not that of uploads."""
    body = {"file": "A" * 200_004, "labels": ["a"]}
    response = client.post("/v1/classify", json=body)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert "as a form" in response.json()["detail"]
    assert "video/mp4" in response.json()["detail"]


def test_an_image_is_ranked_by_the_picture_alone(client: TestClient) -> None:
    """It has no segments, and both are said."""
    body = classify(client, _image("green"), labels=list(COLOURS), segment_s="auto").json()
    assert body["predictions"][0]["label"] == "green"
    assert body["predictions"][0]["audio"] is None
    assert (body["duration_s"], body["segments"]) == (0, None)
    assert body["tracks"]["visual"] == {"used": True, "reason": None, "detail": "png 64x48, a still image"}
    assert not body["tracks"]["audio"]["used"]
    warnings = " ".join(body["warnings"])
    assert "picture alone; no sound was used: a still image has no sound" in warnings
    assert "A still image has no segments." in warnings


def test_several_clips_are_answered_line_by_line(client: TestClient, clips: Clips) -> None:
    """In the order of the parts, each as if it were alone; one that is no clip costs its own line only."""
    contents = [clips["blue high"].read_bytes(), b"no clip" * 50, _image("red")]
    lines = _lines(_send_all(client, *contents, labels=CLASSES))
    assert [line["index"] for line in lines] == [0, 1, 2]
    alone = classify(client, contents[0], labels=CLASSES).json()
    assert _same({k: v for k, v in lines[0].items() if k != "index"}, alone)
    assert (lines[1]["status"], lines[1]["code"]) == (415, "not_media")
    assert lines[1].keys() >= {"type", "title", "detail", "instance", "request_id"}
    assert lines[2]["predictions"][0]["label"].startswith("red")
    assert len(_lines(_send_all(client, contents[0], labels=CLASSES))) == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({}, "no_labels"),
        ({"labels": "a,b"}, "ambiguous_labels"),
        ({"labels": "a", "return": "srt"}, "invalid_option"),
    ],
)
def test_wrong_fields_are_refused_before_any_line(
    client: TestClient, clips: Clips, fields: dict[str, str], code: str
) -> None:
    """With the status of their error."""
    response = _send_all(client, clips["red low"].read_bytes(), **fields)
    assert (response.status_code, response.json()["code"]) == (422, code)


def test_an_unforeseen_fault_costs_one_line(
    client: TestClient, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are answered, and nothing of the fault is told."""
    answers, real = iter([RuntimeError("secret"), None]), Classifier.classify

    def at_times(*args: Any) -> Classification:
        if fault := next(answers):
            raise fault
        return real(*args)

    monkeypatch.setattr(Classifier, "classify", at_times)
    content = clips["red low"].read_bytes()
    lines = _lines(_send_all(client, content, content, labels=CLASSES))
    assert lines[0]["code"] == "internal_error"
    assert "secret" not in str(lines[0])
    assert lines[1]["predictions"]


def test_clips_that_come_after_the_deadline_are_told_so(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them share the time of one request."""
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, decode_workers=1)
    real = Classifier.classify

    def last(*args: Any) -> Classification:
        result = real(*args)
        token = current_token()
        assert token is not None
        token.cancel("deadline")
        return result

    monkeypatch.setattr(Classifier, "classify", last)
    with TestClient(create_app(settings)) as client:
        content = clips["red low"].read_bytes()
        lines = _lines(_send_all(client, content, content, content, labels=CLASSES))
    assert "predictions" in lines[0]
    assert [line.get("code") for line in lines[1:]] == ["request_timeout"] * 2


def test_nothing_is_left_on_disk_after_several_clips(toy_bundle: Path, clips: Clips, tmp_path: Path) -> None:
    """Neither after lines nor after a refusal."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path, upload_dir=uploads, decode_workers=1)
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/info").json()["limits"]["max_files"] == MAX_FILES
        content = clips["red low"].read_bytes()
        assert len(_lines(_send_all(client, content, content, labels=["red"]))) == 2
        assert _send_all(client, content, content).status_code == 422
        (own,) = uploads.iterdir()
        assert [path.name for path in own.iterdir()] == ["lock"]


def test_another_question_about_a_clip_decodes_nothing(make: Make, clips: Clips) -> None:
    """It is counted, told by the receipt, and no time of decoding is made up for it."""
    with TestClient(make(allowed_hosts=("testserver",))) as client:
        first, again = (
            classify(client, clips["red low"], labels=names) for names in (["red"], ["blue", "green"])
        )
        assert first.json()["receipt"] == again.json()["receipt"]
        assert first.json()["receipt"]["clip_sha256"] == sha256(clips["red low"].read_bytes()).hexdigest()
        measured = client.get("/metrics").text
    assert [f'ahse_clip_features_total{{cache="{cache}"}} 1.0' in measured for cache in ("hit", "miss")] == [
        True,
        True,
    ]
    assert 'ahse_step_seconds_count{step="decode"} 1.0' in measured
    assert 'ahse_step_seconds_count{step="rank"} 2.0' in measured


def test_after_a_restart_a_clip_is_known_where_that_is_asked_for(
    make: Make, clips: Clips, tmp_path: Path
) -> None:
    """In a file that another worker may use, too; without the setting there is none."""
    for kept, is_known in ((0, False), (10**6, False), (10**6, True)):
        with TestClient(make(allowed_hosts=("testserver",), clip_store_bytes=kept)) as client:
            answer = classify(client, clips["red low"], labels=["red"], segment_s="auto").json()
            measured = client.get("/metrics").text
        assert (tmp_path / "data" / "clips.sqlite3").exists() == bool(kept)
        assert ('ahse_clip_features_total{cache="hit"} 1.0' in measured) == is_known
        assert answer["segments"][0]["receipt"]["frame_times_s"]


def test_a_client_that_leaves_after_a_line_ends_the_rest(
    client: TestClient, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clip behind that line is worked on."""
    worked_on: list[Path] = []
    real = Classifier.classify

    def counted(self: Classifier, path: Path, *args: Any) -> Classification:
        worked_on.append(path)
        return real(self, path, *args)

    monkeypatch.setattr(Classifier, "classify", counted)
    # Clips that were never asked for: features of others are kept, and their lines follow each other at once.
    parts = [("files", ("clip", clips["red low"].read_bytes() + bytes([n]))) for n in range(4)]
    request = client.build_request("POST", "/v1/classify", files=parts, data={"labels": CLASSES})
    lines = _start_and_leave(client, request.read(), dict(request.headers))
    assert len(lines) == len(worked_on) == 1
    assert not worked_on[0].exists()


def _start_and_leave(client: TestClient, body: bytes, headers: dict[str, str]) -> list[bytes]:
    """The lines that a client gets who disconnects after the first one."""
    lines: list[bytes] = []

    async def exchange() -> None:
        gone, told, messages = asyncio.Event(), asyncio.Event(), [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gone.wait()
            told.set()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body" and message["body"]:
                lines.append(message["body"])
                gone.set()
                # Let the service notice: it may be about to listen again, which a busy machine delays.
                await asyncio.wait_for(told.wait(), 10)
                for _ in range(10):
                    await asyncio.sleep(0)

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/v1/classify",
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "scheme": "http",
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
        }
        await client.app(scope, receive, send)

    assert client.portal is not None
    client.portal.call(exchange)
    return lines


@pytest.mark.parametrize(
    ("form", "media_type"),
    [("srt", "application/x-subrip"), ("vtt", "text/vtt; charset=utf-8"), ("csv", "text/csv; charset=utf-8")],
)
def test_the_timeline_alone_as_text(client: TestClient, clips: Clips, form: str, media_type: str) -> None:
    """Segments of the default length unless another is sent; saved under a neutral name."""
    response = classify(client, clips["blue high"], labels=CLASSES, **{"return": form})
    assert response.status_code == 200
    assert response.headers["content-type"] == media_type
    assert response.headers["content-disposition"] == f'attachment; filename="timeline.{form}"'
    assert "Server-Timing" in response.headers
    assert response.text.count("blue with a high tone") == 2
    whole = classify(client, clips["blue high"], labels=CLASSES, segment_s="600", **{"return": form})
    assert whole.text.count("blue with a high tone") == 1


def test_a_timeline_of_an_image_is_refused(client: TestClient) -> None:
    """An empty one would look like an answer."""
    response = classify(client, _image("red"), labels=CLASSES, **{"return": "vtt"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
    assert "return=json" in response.json()["detail"]


def test_an_unknown_form_of_the_answer_is_refused(client: TestClient, clips: Clips) -> None:
    """With what there is."""
    response = classify(client, clips["red low"], labels=CLASSES, **{"return": "xml"})
    assert response.json()["detail"] == "return must be json, srt, vtt or csv."
