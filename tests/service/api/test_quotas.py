"""How much one client may send and store: rates, quotas, and whose address it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from service.api.connection_options import connection_options
from service.settings import Settings
from tests.service.api.guarded import HERE, Make, asked, new_key, put_raw


def test_a_key_and_an_address_have_a_rate(make: Make, tmp_path: Path) -> None:
    """Health and metrics have none. Wrong keys are counted by address, so none can be found by trying."""
    own, admin = new_key(tmp_path, "classify", rate="1/hour"), new_key(tmp_path, "admin")
    with asked(make(rate_limit="2/hour")) as client:

        def statuses(headers: dict[str, str], path: str = "/v1/models") -> list[int]:
            return [client.get(path, headers=headers).status_code for _ in range(3)]

        assert statuses(own) == [200, 429, 429]
        assert statuses(admin) == [200, 200, 429]
        assert statuses(admin, "/metrics") == [200, 200, 200]
        assert statuses({"X-API-Key": "wrong"}) == [401, 401, 429]
        assert statuses({"X-API-Key": "wrong"}, "/metrics") == [429, 429, 429]
        assert statuses({}, "/v2/health/live") == [200, 200, 200]
        refused = client.get("/v1/models", headers=own)
    assert refused.json()["code"] == "rate_limited"
    assert 3590 <= int(refused.headers["Retry-After"]) <= 3600


def _by_uvicorn(app: FastAPI, **settings: Any) -> Any:
    """The app as uvicorn serves it, with the options of the deployment."""
    config = uvicorn.Config(app, log_config=None, **connection_options(Settings(**settings)))
    config.load()
    return config.loaded_app


@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.7"])
def test_a_client_cannot_forge_its_address(make: Make, peer: str) -> None:
    """Neither its rate nor the audit log believes X-Forwarded-For, also from loopback."""
    app = make(rate_limit="1/hour")
    served = TestClient(_by_uvicorn(app), base_url=HERE, client=(peer, 1))
    with capture_logs() as logs, asked(app):
        sent = {"X-Forwarded-For": "203.0.113.1", "X-Forwarded-Proto": "https"}
        made = served.put("/v1/label-sets/x", headers=sent, json={"labels": []})
        again = served.get("/v1/models", headers={"X-Forwarded-For": "203.0.113.2"})
    assert (made.status_code, again.status_code) == (201, 429)
    assert [log["client"] for log in logs if log["event"] == "edit"] == [peer]
    assert "Strict-Transport-Security" not in made.headers


def test_a_trusted_proxy_tells_the_address_of_its_client(make: Make) -> None:
    """The nearest one that is not a proxy itself: what the client wrote in front of it counts for nothing."""
    app = make(rate_limit="1/hour")
    served = TestClient(
        _by_uvicorn(app, trusted_proxies=("10.0.0.0/8",)), base_url=HERE, client=("10.0.0.1", 1)
    )
    with capture_logs() as logs, asked(app):
        sent = {"X-Forwarded-For": "203.0.113.1, 192.0.2.7, 10.0.0.2", "X-Forwarded-Proto": "https"}
        made = served.put("/v1/label-sets/x", headers=sent, json={"labels": []})
        other = served.get("/v1/models", headers={"X-Forwarded-For": "203.0.113.1, 192.0.2.8"})
        again = served.get("/v1/models", headers={"X-Forwarded-For": "203.0.113.2, 192.0.2.7"})
    assert (made.status_code, other.status_code, again.status_code) == (201, 200, 429)
    assert [log["client"] for log in logs if log["event"] == "edit"] == ["192.0.2.7"]
    assert "Strict-Transport-Security" in made.headers


def test_a_key_owns_no_more_than_its_quotas(make: Make, tmp_path: Path) -> None:
    """The answer has the numbers; another key is not concerned."""
    small = new_key(tmp_path, "labels", label_sets=1, labels=2)
    large = new_key(tmp_path, "labels")
    with asked(make()) as client:

        def put(name: str, labels: list[str], headers: dict[str, str]) -> Any:
            return client.put(f"/v1/label-sets/{name}", headers=headers, json={"labels": labels})

        assert put("one", ["a", "b"], small).status_code == 201
        refused = [
            put("two", [], small),
            put("one", ["a", "b", "c"], small),
            client.post("/v1/label-sets/one/labels", headers=small, json={"labels": ["c"]}),
        ]
        assert {(one.status_code, one.json()["code"]) for one in refused} == {(403, "quota_exceeded")}
        assert "may own 1 label sets" in refused[0].json()["detail"]
        assert put("two", ["a", "b", "c"], large).status_code == 201


def test_a_key_sends_no_more_bytes_a_day_than_its_quota(
    make: Make, tmp_path: Path, clips: dict[str, Path]
) -> None:
    """A declared body is refused before it is read and costs nothing; others at the first byte too many."""
    headers = new_key(tmp_path, "classify", "labels", bytes_per_day=1000)
    body = b'{"labels": ["a"]' + b" " * 384 + b"}"
    json = {"Content-Type": "application/json", **headers}
    app = make()
    with asked(app) as client:
        clip = clips["red low"].read_bytes()
        whole = client.post("/v1/classify", headers=headers, files={"file": clip})
        assert (whole.status_code, whole.json()["code"]) == (403, "quota_exceeded")
        assert "may send 1000 bytes a day" in whole.json()["detail"]
        assert client.put("/v1/label-sets/x", headers=json, content=body).status_code == 201
        assert put_raw(app, json, [body[:100], body[100:]])[0] == 200
        left = 1000 - 2 * len(body)
        declared = client.put("/v1/label-sets/x", headers=json, content=body)
        assert (declared.status_code, declared.json()["code"]) == (429, "rate_limited")
        assert f"1000 bytes a day; {left} are left" in declared.json()["detail"]
        assert int(declared.headers["Retry-After"]) > 86_000
        assert put_raw(app, json, [b" " * left]) == (400, 1)
        assert put_raw(app, json, [b" "]) == (429, 1)
        assert put_raw(app, json, [b" "] * 3) == (429, 1)
