"""The OpenAPI document is complete and true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from service.api import embeddings, schemas
from service.api.jobs import schemas as jobs
from service.api.schemas import Problem
from tests.service.api.conftest import classify


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def test_every_error_is_documented_as_a_problem(client: TestClient) -> None:
    """Never as FastAPI's own error bodies, which are never sent."""
    document = client.get("/openapi.json").json()
    for name, operation in _operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (name, status)
    assert "HTTPValidationError" not in str(document)


def test_every_error_has_an_example_with_its_code(client: TestClient) -> None:
    """One for each code that the description names."""
    for name, operation in _operations(client.get("/openapi.json").json()):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            codes = set(re.findall(r"[a-z_]+", response["description"].partition(":")[2]))
            examples = response["content"]["application/problem+json"]["examples"]
            assert set(examples) == codes, (name, status)
            for code, example in examples.items():
                problem = Problem.model_validate(example["value"])
                assert (problem.code, problem.status) == (code, int(status))
                assert problem.detail


def test_examples_are_what_is_answered(client: TestClient) -> None:
    """Each can be read as the answer that it is an example of; there is one for each answer with a body."""
    document = client.get("/openapi.json").json()
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            (model,) = {getattr(one, name) for one in (schemas, jobs, embeddings) if hasattr(one, name)}
            model.model_validate(example)
    for name, operation in _operations(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json")
            if int(status) < 300 and content is not None:
                answered = content["schema"]["$ref"].rpartition("/")[2]
                has_one = "examples" in document["components"]["schemas"][answered]
                assert has_one or answered in ("Live", "Ready"), (name, answered)


def test_headers_are_documented_and_sent(client: TestClient, clips: dict[str, Path]) -> None:
    """What the document promises for an answer is there."""
    paths = client.get("/openapi.json").json()["paths"]

    def promised(method: str, path: str, status: int) -> set[str]:
        return set(paths[path][method]["responses"][str(status)]["headers"])

    new = client.put("/v1/label-sets/headers", json={"labels": ["red"]})
    one = "/v1/label-sets/{name}"
    assert promised("put", one, 201) == {"ETag", "Location", "X-Request-ID"}
    assert all(name in new.headers for name in promised("put", one, 201))
    assert all(name in client.get("/v1/label-sets/headers").headers for name in promised("get", one, 200))
    answer = classify(client, clips["red low"], label_set="headers")
    assert promised("post", "/v1/classify", 200) == {"Server-Timing", "X-Request-ID"}
    assert all(name in answer.headers for name in promised("post", "/v1/classify", 200))
    for status, header in (("401", "WWW-Authenticate"), ("429", "Retry-After"), ("503", "Retry-After")):
        assert header in paths["/v1/classify"]["post"]["responses"][status]["headers"]


def test_every_reference_resolves(client: TestClient) -> None:
    """Generators of clients stop at the first that does not."""
    document = client.get("/openapi.json").json()
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    assert {"Problem", "LabelSetBody", "LabelsBody", "ClassifyResponse"} <= references


def test_bodies_and_codes_of_the_main_addresses(client: TestClient) -> None:
    """What a reader looks for."""
    document = client.get("/openapi.json").json()
    paths = document["paths"]
    body = paths["/v1/classify"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    named = {
        "file",
        "files",
        "labels",
        "label_set",
        "top_k",
        "templates",
        "calibration",
        "guarantee",
        "segment_s",
        "frames",
        "audio_windows",
        "bundle",
        "return",
        "url",
    }
    assert named == set(form["properties"])
    assert form["allOf"] == [
        {"oneOf": [{"required": [one]} for one in ("file", "files", "url")]},
        {"oneOf": [{"required": ["labels"]}, {"required": ["label_set"]}]},
    ]
    assert all(one["description"] for one in form["properties"].values())
    assert form["properties"]["file"]["format"] == "binary"
    numbers = form["properties"]["segment_s"]["anyOf"]
    assert {"minimum": 1.0, "maximum": 600.0, "type": "number"} in numbers
    assert "no_labels" in paths["/v1/classify"]["post"]["responses"]["422"]["description"]
    assert "application/json" in paths["/v1/label-sets/{name}"]["put"]["requestBody"]["content"]
    assert {"200", "304"} <= paths["/v1/label-sets/{name}"]["get"]["responses"].keys()


def test_values_that_are_sent_as_text_are_never_null(client: TestClient) -> None:
    """Generators of clients would send the word `null`."""
    for name, operation in _operations(client.get("/openapi.json").json()):
        for parameter in operation.get("parameters", []):
            assert "null" not in str(parameter["schema"]), (name, parameter["name"])


def test_a_wrong_body_is_described_in_our_own_words(client: TestClient) -> None:
    """Where and what, without the validator's type names; and a missing header is said to be missing."""
    response = client.put("/v1/label-sets/x", json={"labels": [1], "templates": "a {}", "more": 1})
    assert response.json()["detail"] == (
        "The request does not have the documented form: labels.0 must be a string or must be an object; "
        "templates must be a list; more is not a known field"
    )
    plain = client.put("/v1/label-sets/x", content='{"labels": ["a"]}')
    assert (plain.status_code, plain.json()["code"]) == (400, "malformed_body")
    assert "Content-Type: application/json" in plain.json()["detail"]
