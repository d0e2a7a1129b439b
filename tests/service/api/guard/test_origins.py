"""What browsers are made to send by pages of other sites: hosts, origins, CORS."""

from __future__ import annotations

import pytest

from tests.service.api.guard.guarded import BEARER, HERE, SECRET, Make, asked

# By the scripts of allowed sites.
_SENT = ("authorization", "content-type", "idempotency-key", "if-match", "last-event-id")


def test_a_name_that_was_rebound_to_this_machine_is_refused(make: Make) -> None:
    """What a browser sends for http://evil.example, once that name leads to 127.0.0.1."""
    with asked(make()) as client:
        refused = client.get("/v1/label-sets", headers={"Host": "evil.example:8000"})
        assert (refused.status_code, refused.json()["code"]) == (421, "host_not_allowed")
        for host in ("127.0.0.1:8000", "localhost", "[::1]:8000"):
            assert client.get("/v1/label-sets", headers={"Host": host}).status_code == 200
        assert client.get("/v2/health/live", headers={"Host": "probe.example"}).status_code == 200


def test_hosts_are_allowed_by_name(make: Make) -> None:
    """With keys any is, unless there is a list."""
    with asked(make(allowed_hosts=("good.example",))) as client:
        assert client.get("/v1/models", headers={"Host": "Good.example"}).status_code == 200
        assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421
    with asked(make(api_key=SECRET)) as client:
        assert client.get("/v1/models", headers={"Host": "any.example", **BEARER}).status_code == 200
    with asked(make(api_key=SECRET, allowed_hosts=("good.example",))) as client:
        assert client.get("/v1/models", headers={"Host": "any.example", **BEARER}).status_code == 421


@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": HERE},
    ],
    ids=str,
)
def test_the_page_of_another_site_changes_nothing(make: Make, sent: dict[str, str]) -> None:
    """Not by reload, nor PUT, nor a form; it may read, which browsers don't show it."""
    with asked(make()) as client:
        answers = [
            client.post("/v1/models/toy/reload", headers=sent),
            client.put("/v1/label-sets/x", headers=sent, json={"labels": ["a"]}),
            client.delete("/v1/label-sets/x", headers=sent),
            client.post("/v1/classify", headers=sent, data={"labels": "a"}),
        ]
        found = client.get("/v1/label-sets", headers=sent)
    assert {(one.status_code, one.json()["code"]) for one in answers} == {(403, "origin_not_allowed")}
    assert found.json()["label_sets"] == []
    assert "Access-Control-Allow-Origin" not in found.headers


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Origin": HERE},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://friend.example"},
        {"Origin": "https://friend.example", "Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_the_services_own_pages_and_allowed_sites_may(make: Make, sent: dict[str, str]) -> None:
    """And programs, which send neither header."""
    with asked(make(cors_origins=("https://friend.example",))) as client:
        assert client.put("/v1/label-sets/x", headers=sent, json={"labels": ["a"]}).status_code == 201


def test_allowed_sites_can_ask_first_and_read_the_answers(make: Make) -> None:
    """A preflight request carries no key; refusals can be read too."""
    asks = {
        "Origin": "https://friend.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": ", ".join(_SENT),
    }
    with asked(make(cors_origins=("https://friend.example",), api_key=SECRET)) as client:
        allowed = client.options("/v1/label-sets/x", headers=asks)
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://friend.example"
        refused = client.options("/v1/label-sets/x", headers={**asks, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in refused.headers
        answer = client.get("/v1/models", headers={"Origin": "https://friend.example"})
        assert answer.status_code == 401
        assert answer.headers["Access-Control-Allow-Origin"] == "https://friend.example"
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed == {"ETag", "Location", "Retry-After", "X-Request-ID", "Server-Timing"} | {
            "Warning",  # that a label set is stale
            "Content-Disposition",  # the name of a file of subtitles
        }
        assert "Access-Control-Allow-Credentials" not in answer.headers
    with asked(make(api_key=SECRET)) as client:
        off = client.options("/v1/label-sets/x", headers=asks)
        assert not [name for name in off.headers if name.startswith("access-control")]
