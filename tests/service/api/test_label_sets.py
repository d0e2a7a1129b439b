"""Label sets over HTTP: changed at run time, usable at once, guarded by ETags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.api.conftest import classify

Clips = dict[str, Path]


def _put(client: TestClient, name: str, labels: list[Any], **headers: str) -> Any:
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return client.put(f"/v1/label-sets/{name}", json={"labels": labels}, headers=sent)


def _labels(client: TestClient, name: str) -> Any:
    return client.get(f"/v1/label-sets/{name}").json()["labels"]


def test_a_new_label_changes_the_next_ranking(client: TestClient, clips: Clips) -> None:
    """No retraining, no restart: the added name wins at once, and loses its place when it is removed."""
    assert _put(client, "colours", ["green", "blue"]).status_code == 201
    before = classify(client, clips["red low"], label_set="colours").json()
    client.post("/v1/label-sets/colours/labels", json={"labels": ["red"]})
    after = classify(client, clips["red low"], label_set="colours").json()
    client.delete("/v1/label-sets/colours/labels/red")
    again = classify(client, clips["red low"], label_set="colours").json()
    assert before["predictions"][0]["label"] != "red"
    assert after["predictions"][0]["label"] == "red"
    assert after["label_set"] == "colours"
    assert again["predictions"] == before["predictions"]


def test_a_label_with_its_own_prompts(client: TestClient, clips: Clips) -> None:
    """The prompts stand for the name; the answer shows the name."""
    crimson = {"name": "crimson murmur", "prompts": ["red low", "a red one with a low {}"]}
    _put(client, "prompts", ["blue with a high tone", crimson])
    body = classify(client, clips["red low"], label_set="prompts").json()
    assert body["predictions"][0]["label"] == "crimson murmur"


def test_templates_of_a_set_are_used(client: TestClient, clips: Clips) -> None:
    """And the request's own templates go before them."""
    sent = {"labels": ["filler1", "filler2"], "templates": ["{} red low"]}
    client.put("/v1/label-sets/styled", json=sent)
    assert client.get("/v1/label-sets/styled").json()["templates"] == ["{} red low"]
    near = classify(client, clips["red low"], label_set="styled").json()
    far = classify(client, clips["red low"], label_set="styled", templates="{} blue high").json()
    assert near["predictions"][0]["distance"] < 0.2 < 1 < far["predictions"][0]["distance"]


def test_a_set_has_the_guarantee_of_requests_without_one(client: TestClient, clips: Clips) -> None:
    """The request's own goes before it, and a calibration of its own rules it out."""
    client.put("/v1/label-sets/promised", json={"labels": ["red", "blue"], "guarantee": 0.9})

    def level(**fields: str) -> float | None:
        answer = classify(client, clips["red low"], label_set="promised", **fields)
        assert answer.status_code == 200, answer.text
        found = answer.json()["guarantee"]
        return None if found is None else float(found["level"])

    assert level() == 0.9
    assert level(guarantee="0.6") == 0.6
    assert level(calibration="off") is None
    client.put("/v1/label-sets/promised", json={"labels": ["red", "blue"]})
    assert level() is None


def test_a_label_whose_address_was_shortened_does_not_stand_for_its_set(client: TestClient) -> None:
    """As by a client that resolves the two dots of `/labels/..` before it sends them."""
    _put(client, "kept", [".."])
    assert client.delete("/v1/label-sets/kept/", follow_redirects=True).status_code == 404
    assert client.get("/v1/label-sets/kept").status_code == 200


def test_etags_guard_against_lost_updates(client: TestClient) -> None:
    """Two clients read the same state; the second writer is told."""
    etag = _put(client, "guarded", ["a"]).headers["ETag"]
    assert client.get("/v1/label-sets/guarded", headers={"If-None-Match": etag}).status_code == 304
    assert _put(client, "guarded", ["b"], If_Match=etag).status_code == 200
    assert _put(client, "guarded", ["c"], If_Match='"*"').status_code == 412
    late = _put(client, "guarded", ["c"], If_Match=etag)
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert _put(client, "guarded", ["c"], If_None_Match="*").status_code == 412
    weak = _put(
        client, "guarded", ["c"], If_Match=f"W/{client.get('/v1/label-sets/guarded').headers['ETag']}"
    )
    assert weak.status_code == 412
    both = f'"other", {client.get("/v1/label-sets/guarded").headers["ETag"]}'
    assert client.delete("/v1/label-sets/guarded", headers={"If-Match": both}).status_code == 204
    assert client.get("/v1/label-sets/guarded").json()["code"] == "unknown_label_set"


def test_pages_with_a_cursor(client: TestClient) -> None:
    """Every set is listed once, in order."""
    for name in ("page-c", "page-a", "page-b"):
        _put(client, name, ["x"])
    names, cursor = [], None
    while True:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/v1/label-sets", params=query).json()
        names += [one["name"] for one in page["label_sets"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == sorted(set(names))
    assert {"page-a", "page-b", "page-c"} <= set(names)


def test_a_page_of_sets_with_long_templates_is_shorter(client: TestClient) -> None:
    """A page of a thousand would be 128 MB, and never have room; no set is left out."""
    templates = ["\U0001f436" * 498 + "{}"] * 64
    names = [f"long-{i:02d}" for i in range(12)]
    for name in names:
        assert client.put(f"/v1/label-sets/{name}", json={"labels": [], "templates": templates}).is_success
    first = client.get("/v1/label-sets", params={"cursor": "long", "limit": 12}).json()
    rest = client.get("/v1/label-sets", params={"cursor": first["next_cursor"], "limit": 2}).json()
    pages = [[one["name"] for one in page["label_sets"]] for page in (first, rest)]
    assert pages == [names[:10], names[10:]]
    for name in names:
        client.delete(f"/v1/label-sets/{name}")


def test_a_label_with_a_slash_can_be_removed(client: TestClient) -> None:
    """Names are free text; in an address they are percent-encoded."""
    _put(client, "slashes", ["AC/DC", "caf\u00e9, open"])
    assert client.delete("/v1/label-sets/slashes/labels/AC%2FDC").json()["n_labels"] == 1
    assert client.delete("/v1/label-sets/slashes/labels/caf%C3%A9,%20open").json()["n_labels"] == 0


def test_an_emptied_set_is_kept_but_ranks_nothing(client: TestClient, clips: Clips) -> None:
    """Its last label can go; classify then says what to do."""
    _put(client, "emptied", ["only"])
    client.delete("/v1/label-sets/emptied/labels/only")
    response = classify(client, clips["red low"], label_set="emptied")
    assert (response.status_code, response.json()["code"]) == (422, "no_labels")
    assert "is empty" in response.json()["detail"]


def test_a_set_is_emptied_by_put_as_by_delete(client: TestClient) -> None:
    """Both leave a set without labels."""
    _put(client, "by-delete", ["only"])
    assert client.delete("/v1/label-sets/by-delete/labels/only").json()["n_labels"] == 0
    put = _put(client, "by-put", [])
    assert (put.status_code, put.json()["n_labels"]) == (201, 0)
    assert _labels(client, "by-delete") == _labels(client, "by-put") == []


def test_changes_answer_with_all_but_the_labels(client: TestClient) -> None:
    """The same as the listing has; reading the set has the labels too."""
    sent = {"labels": ["a"], "templates": ["a {}"], "guarantee": 0.9}
    put = client.put("/v1/label-sets/answered", json=sent)
    added = client.post("/v1/label-sets/answered/labels", json={"labels": ["b", "c"]})
    removed = client.delete("/v1/label-sets/answered/labels/a")
    for answer, n_labels in ((put, 1), (added, 3), (removed, 2)):
        found = answer.json()
        assert (found["n_labels"], found["templates"], found["guarantee"]) == (n_labels, ["a {}"], 0.9)
        assert answer.headers["ETag"] == f'"{found["etag"]}"'
        assert found["created"] == put.json()["created"]
    listed = client.get("/v1/label-sets", params={"cursor": "answere"}).json()["label_sets"]
    whole = client.get("/v1/label-sets/answered").json()
    assert listed[0] == removed.json()
    assert whole == removed.json() | {"labels": [{"name": name, "prompts": []} for name in ("b", "c")]}


def test_adding_a_label_that_is_there_changes_nothing(client: TestClient) -> None:
    """A request that is repeated after a lost answer is no error; the stored spelling stays."""
    before = _put(client, "twice", ["a", "b"])
    again = client.post("/v1/label-sets/twice/labels", json={"labels": ["B", "c"]})
    repeated = client.post("/v1/label-sets/twice/labels", json={"labels": ["B", "c"]})
    assert [label["name"] for label in _labels(client, "twice")] == ["a", "b", "c"]
    assert repeated.status_code == 200
    assert repeated.json() == again.json()
    assert repeated.headers["ETag"] == again.headers["ETag"] != before.headers["ETag"]


def test_prompts_that_are_added_replace_those_of_the_label(client: TestClient) -> None:
    """The label stays where it is; a plain name leaves its prompts."""
    _put(client, "prompted", [{"name": "a", "prompts": ["old {}"]}, "b"])
    client.post("/v1/label-sets/prompted/labels", json={"labels": [{"name": "A", "prompts": ["new"]}]})
    added = [{"name": "a", "prompts": ["new"]}, {"name": "b", "prompts": []}]
    assert _labels(client, "prompted") == added
    client.post("/v1/label-sets/prompted/labels", json={"labels": ["a"]})
    assert _labels(client, "prompted") == added


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("ok", {"labels": ["a", "A"]}, 422, "duplicate_labels"),
        ("ok", {"labels": [" "]}, 422, "invalid_label"),
        ("ok", {"labels": [f"label {i}" for i in range(61)]}, 422, "too_many_labels"),
        ("ok", {"labels": ["a"], "templates": ["no"]}, 422, "invalid_template"),
        ("ok", {"labels": [1]}, 422, "invalid_request"),
        ("ok", {"labels": ["a"], "guarantee": 0.3}, 422, "invalid_request"),
        ("ok", {"labels": ["a"], "guarantee": 1}, 422, "invalid_request"),
        ("ok", {"labels": ["a"], "guarantee": "0.9"}, 422, "invalid_request"),
        ("ok", {"lables": ["a"]}, 422, "invalid_request"),
        ("ok", [], 422, "invalid_request"),
        ("-bad", {"labels": ["a"]}, 422, "invalid_name"),
        ("a" * 101, {"labels": ["a"]}, 422, "invalid_name"),
    ],
)
def test_unacceptable_sets(client: TestClient, name: str, body: object, status: int, code: str) -> None:
    """Each has its own stable code, and nothing is stored."""
    response = client.put(f"/v1/label-sets/{name}", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert client.get("/v1/label-sets/ok").status_code == 404


def test_bodies_that_are_no_json_or_too_large(client: TestClient) -> None:
    """Not JSON is 400; too many bytes are 413 before they are parsed."""
    address, headers = "/v1/label-sets/ok", {"content-type": "application/json"}
    broken = client.put(address, content=b"{", headers=headers)
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_body")
    large = client.put(address, content=b" " * 200_001, headers=headers)
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("method", "address", "headers"),
    [
        ("GET", "/v1/label-sets?cursor=%20%20", {}),
        ("GET", "/v1/label-sets?cursor=_w==", {}),
        ("DELETE", "/v1/label-sets/x", {"If-Match": "unquoted"}),
        ("DELETE", "/v1/label-sets/x", {"If-Match": ""}),
        ("GET", "/v1/label-sets/x", {"If-None-Match": '"a" "b"'}),
        ("PUT", "/v1/label-sets/x", {"If-None-Match": '"etag"'}),
    ],
)
def test_malformed_headers_and_cursors(
    client: TestClient, method: str, address: str, headers: dict[str, str]
) -> None:
    """A slip here must not turn into an unconditional change."""
    response = client.request(method, address, headers=headers, json={"labels": ["a"]})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
