"""The OpenAPI document is complete and true."""

from __future__ import annotations

import re
from typing import Any

from starlette.testclient import TestClient


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
        "segment_s",
        "frames",
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
