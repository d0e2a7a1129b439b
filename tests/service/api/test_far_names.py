"""What a bundle has to say of itself and of the names it was asked for, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.toy import NOTICE

SAYS = "Far from every name that the bundle's encoders know, so their scores mean little: "
Clips = dict[str, Path]


@pytest.fixture(scope="module")
def client(
    shared_bundle: Path, toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A bundle that knows names and has a notice, and one that has neither."""
    data_dir = tmp_path_factory.mktemp("data")
    settings = Settings(bundles=(shared_bundle, toy_bundle), data_dir=data_dir, decode_workers=1)
    with TestClient(create_app(settings), raise_server_exceptions=False) as running:
        yield running


def _far(body: dict[str, Any]) -> list[str]:
    return [text.removeprefix(SAYS) for text in body["warnings"] if text.startswith(SAYS)]


@pytest.mark.parametrize(
    ("labels", "far"),
    [
        (["red", "blue", "filler0"], []),
        (["red", "piano"], ["'piano'."]),
        (["синий", "red", "赤"], ["'синий', '赤'."]),
        (["a", "b", "red", "c", "d", "e"], ["'a', 'b', 'c', 'd', 'e'."]),
        (["a", "b", "c", "d", "red", "e", "f", "g"], ["'a', 'b', 'c', 'd', 'e' and 2 more."]),
    ],
)
def test_far_names_are_warned_of(client: TestClient, clips: Clips, labels: list[str], far: list[str]) -> None:
    """At most five by name, in the order of the request; all of them are ranked nonetheless."""
    body = classify(client, clips["red low"], labels=labels).json()
    assert _far(body) == far
    assert {one["label"] for one in body["predictions"]} == set(labels)


def test_the_warning_does_not_depend_on_what_was_known_before(client: TestClient, clips: Clips) -> None:
    """From the cache, from a label set, and for the first time."""
    client.put("/v1/label-sets/s", json={"labels": ["red", "never seen before"]})
    asked: list[dict[str, Any]] = [{"label_set": "s"}, {"label_set": "s"}]
    asked.append({"labels": ["red", "never seen before"]})
    bodies = [classify(client, clips["red low"], **fields).json() for fields in asked]
    assert [_far(body) for body in bodies] == [["'never seen before'."]] * 3


def test_a_prompt_that_is_known_is_enough(client: TestClient, clips: Clips) -> None:
    """The name itself may be any in the encoder's letters."""
    label_set = {"labels": [{"name": "xyz", "prompts": ["red", "odd"]}, "blue"]}
    assert client.put("/v1/label-sets/own", json=label_set).status_code in (200, 201)
    assert _far(classify(client, clips["red low"], label_set="own").json()) == []


def test_the_notice_is_in_every_answer(client: TestClient, clips: Clips) -> None:
    """Of the bundle that answered, and null where it has none."""
    ours = classify(client, clips["red low"], labels=["red", "blue"]).json()
    other = classify(client, clips["red low"], labels=["red", "piano"], bundle="toy").json()
    assert (ours["bundle"], ours["bundle_notice"]) == ("shared", NOTICE)
    assert (other["bundle"], other["bundle_notice"], other["warnings"]) == ("toy", None, [])


def test_models_tell_their_notice(client: TestClient) -> None:
    """Before any clip is sent."""
    models = client.get("/v1/models").json()["data"]
    assert [(one["id"], one["notice"]) for one in models] == [("shared", NOTICE), ("toy", None)]
    assert client.get("/v1/models/shared").json()["notice"] == NOTICE
