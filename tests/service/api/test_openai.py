"""The real client of OpenAI against this service: embeddings of texts and clips, models, errors, retries."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.api import embeddings
from service.api.guard.admission import Admission
from service.api.guard.byte_budget import ByteBudget
from service.arrays import Array
from service.errors import OverloadedError
from tests.service.api.conftest import classify
from tests.toy import CLASSES

Clips = dict[str, Path]


class _Through(httpx2.BaseTransport):
    """Passes requests of the client to the service in this process."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self.answers: list[int] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        path, content = request.url.raw_path.decode(), request.read()
        answer = self._client.request(request.method, path, content=content, headers=headers)
        self.answers.append(answer.status_code)
        return httpx2.Response(answer.status_code, headers=dict(answer.headers), content=answer.content)


@pytest.fixture
def transport(client: TestClient) -> _Through:
    """Between both."""
    return _Through(client)


@pytest.fixture
def ai(transport: _Through) -> Iterator[openai.OpenAI]:
    """The client, as its documentation sets it up for another server."""
    with httpx2.Client(transport=transport) as http:
        yield openai.OpenAI(api_key="none", base_url="http://testserver/v1", http_client=http)


def _vectors(answer: Any) -> Array:
    assert [one.index for one in answer.data] == list(range(len(answer.data)))
    return np.array([one.embedding for one in answer.data], np.float32)


def _as_input(clip: Path) -> Any:
    return {"file": base64.b64encode(clip.read_bytes()).decode()}


@pytest.mark.parametrize("bundle", ["toy", "other"])
@pytest.mark.parametrize("name", ["blue high", "red low", "green", "middle"])
def test_dot_products_order_names_as_classify_does(
    ai: openai.OpenAI, client: TestClient, clips: Clips, name: str, bundle: str
) -> None:
    """Texts and a clip in one request, with base64 in between, which is the client's default."""
    answer = ai.embeddings.create(model=bundle, input=[*CLASSES, _as_input(clips[name])])
    *names, clip = _vectors(answer)
    dots = np.array(names) @ clip
    ranked = classify(client, clips[name], labels=CLASSES, calibration="off", bundle=bundle).json()
    by_name = {one["label"]: one["distance"] for one in ranked["predictions"]}
    distances = np.array([by_name[label] for label in CLASSES])
    # The toy's head counts the embedding alone: |z|^2 - d^2 = 2 z . z_name - |z_name|^2.
    shifts = dots + distances**2 / 2
    np.testing.assert_allclose(shifts, shifts.mean(), atol=1e-4)
    assert distances[int(np.argmax(dots))] == pytest.approx(distances.min(), abs=1e-4)


def test_one_text_and_several(ai: openai.OpenAI) -> None:
    """The same text gives the same vector, wherever it stands and however often."""
    (alone,) = _vectors(ai.embeddings.create(model="toy", input="red"))
    several = ai.embeddings.create(model="toy", input=["blue", "red", "blue"], encoding_format="float")
    assert (several.model, several.object) == ("toy", "list")
    vectors = _vectors(several)
    np.testing.assert_array_equal(vectors[1], alone)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])


def test_tokens_are_counted(ai: openai.OpenAI) -> None:
    """Of the texts alone: the toy's tokenizer makes one of each word."""
    usage = ai.embeddings.create(model="toy", input=["red low", "blue"]).usage
    assert (usage.prompt_tokens, usage.total_tokens) == (3, 3)


def test_clips_as_a_form(client: TestClient, ai: openai.OpenAI, clips: Clips) -> None:
    """One, and several in the order of the parts; an image too."""
    image = io.BytesIO()
    Image.new("RGB", (64, 48), (230, 20, 20)).save(image, "PNG")
    contents = [clips["blue high"].read_bytes(), image.getvalue()]
    parts = [("files", ("c", one)) for one in contents]
    several = client.post("/v1/embeddings", files=parts, data={"model": "toy"})
    one = client.post("/v1/embeddings", files={"file": ("c", contents[0])}, data={"model": "toy"})
    first, second = (np.array(item["embedding"], np.float32) for item in several.json()["data"])
    np.testing.assert_array_equal(np.array(one.json()["data"][0]["embedding"], np.float32), first)
    (own,) = _vectors(ai.embeddings.create(model="toy", input=[_as_input(clips["blue high"])]))
    np.testing.assert_array_equal(own, first)
    assert first.shape == second.shape
    assert several.json()["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_dimensions_can_be_named_but_not_changed(ai: openai.OpenAI, client: TestClient) -> None:
    """The message says how many there are."""
    width = _vectors(ai.embeddings.create(model="toy", input="red")).shape[1]
    assert _vectors(ai.embeddings.create(model="toy", input="red", dimensions=width)).shape == (1, width)
    with pytest.raises(openai.UnprocessableEntityError, match=f"dimensions must be {width}"):
        ai.embeddings.create(model="toy", input="red", dimensions=2)
    refused = client.post(
        "/v1/embeddings", data={"model": "toy", "dimensions": 2}, files={"file": b"no clip at all " * 20}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option")  # before any clip is read


def test_models(ai: openai.OpenAI) -> None:
    """Listed and one by one."""
    assert [one.id for one in ai.models.list()] == ["toy", "other"]
    assert ai.models.retrieve("other").owned_by == "ahse"
    with pytest.raises(openai.NotFoundError) as caught:
        ai.models.retrieve("none")
    assert (caught.value.code, caught.value.param) == ("unknown_bundle", "model")


def test_errors_are_both_problems_and_openais(ai: openai.OpenAI, client: TestClient) -> None:
    """The client reads code, type and param; whoever reads problem+json finds all of it too."""
    with pytest.raises(openai.NotFoundError) as caught:
        ai.embeddings.create(model="none", input="red")
    assert (caught.value.code, caught.value.type, caught.value.param) == (
        "unknown_bundle",
        "invalid_request_error",
        "model",
    )
    answer = client.post("/v1/embeddings", json={"model": "none", "input": "red"})
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["error"] == {
        "message": body["detail"],
        "type": "invalid_request_error",
        "code": body["code"],
        "param": "model",
    }
    assert "error" not in client.post("/v1/classify").json()
    assert client.post("/v1/models").json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "toy"}, 422, "invalid_request"),
        ({"model": "toy", "input": []}, 422, "invalid_request"),
        ({"model": "toy", "input": [1, 2]}, 422, "invalid_request"),
        ({"model": "toy", "input": ["red", ""]}, 422, "invalid_label"),
        ({"model": "toy", "input": ["a"] * 1001}, 422, "invalid_request"),
        ({"model": "toy", "input": [{"file": "AAEC"}] * 101}, 422, "invalid_request"),
        ({"model": "toy", "input": "x" * 300}, 422, "invalid_label"),
        ({"model": "toy", "input": {"file": "not base64!"}}, 400, "malformed_body"),
        ({"model": "toy", "input": {"file": "AAEC"}}, 415, "not_media"),
        ({"model": "toy", "input": "red", "more": 1}, 422, "invalid_request"),
        ({"model": "toy", "input": "red", "encoding_format": "hex"}, 422, "invalid_request"),
        ({"model": "toy", "input": ["x" * 200_000]}, 413, "body_too_large"),
    ],
)
def test_unacceptable_bodies(client: TestClient, body: dict[str, Any], status: int, code: str) -> None:
    """Each has its own code, and a message in both shapes."""
    answer = client.post("/v1/embeddings", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["error"]["message"]


def test_options_of_a_json_body_are_in_it(client: TestClient) -> None:
    """One in the query would not count."""
    answer = client.post("/v1/embeddings?encoding_format=base64", json={"model": "toy", "input": "red"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")


@pytest.mark.parametrize("data", [{}, {"model": "toy", "labels": "a"}, {"model": "toy", "dimensions": "x"}])
def test_unacceptable_forms(client: TestClient, clips: Clips, data: dict[str, str]) -> None:
    """Options are checked before any clip is looked at."""
    answer = client.post("/v1/embeddings", files={"file": clips["green"].read_bytes()}, data=data)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_the_client_tries_again_after_429(
    ai: openai.OpenAI, transport: _Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits as long as Retry-After says, and not at all in this test."""
    waits: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", waits.append)
    refusals = iter([True, False])
    real = ByteBudget.take

    def full_at_first(self: ByteBudget, n_bytes: int) -> None:
        if next(refusals, False):
            raise OverloadedError("The service is full; try again later.")
        real(self, n_bytes)

    monkeypatch.setattr(ByteBudget, "take", full_at_first)
    assert len(_vectors(ai.embeddings.create(model="toy", input="red"))) == 1
    assert transport.answers == [429, 200]
    assert waits == [5.0]


def test_the_client_shows_the_last_refusal(
    ai: openai.OpenAI, transport: _Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its own kind of error, with the service's words."""
    monkeypatch.setattr("openai._base_client.time.sleep", lambda _: None)

    def full(_: ByteBudget, __: int) -> None:
        raise OverloadedError("The service is full; try again later.")

    monkeypatch.setattr(ByteBudget, "take", full)
    with pytest.raises(openai.RateLimitError) as caught:
        ai.embeddings.create(model="toy", input="red")
    assert (caught.value.code, caught.value.type) == ("overloaded", "rate_limit_error")
    assert "service is full" in caught.value.message
    assert transport.answers == [429] * 3


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embeddings"])
def test_a_request_takes_a_place_of_clips_whatever_its_body(
    client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any of it is read: JSON may hold clips too."""
    (admission,) = _middlewares(client, Admission)
    monkeypatch.setattr(admission, "_bounds", replace(admission._bounds, max_clips=0))
    answer = client.post(path, json={"model": "toy", "input": "red"})
    assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
    assert answer.headers["Retry-After"]


def _middlewares(client: TestClient, kind: type) -> list[Any]:
    layer: Any = client.app.middleware_stack  # type: ignore[attr-defined]
    found = []
    while layer is not None:
        found += [layer] if isinstance(layer, kind) else []
        layer = getattr(layer, "_app", None) or getattr(layer, "app", None)
    return found


def test_numbers_are_read_as_the_float32_that_they_were() -> None:
    """And take no more digits than that needs."""
    vector = np.random.default_rng(0).normal(size=1000).astype(np.float32) * np.float32(1e-3)
    text = embeddings._as_numbers(vector)
    np.testing.assert_array_equal(np.array(json.loads(text), np.float32), vector)
    assert len(text) < 16 * len(vector)
