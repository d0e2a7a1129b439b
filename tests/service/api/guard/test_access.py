"""Who may do what: keys, scopes, the admin port, the audit log."""

from __future__ import annotations

import json
import subprocess
import sys
from ctypes import c_bool
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.access.keys import SCOPES
from service.api.app import create_app
from service.api.guard.scopes import NEEDS, need_of
from service.api.siblings import Worker
from service.errors import SettingsError
from service.settings import Settings
from tests.service.api.conftest import classify
from tests.service.api.guard.guarded import BEARER, SECRET, Make, asked, new_key, put_raw


def test_each_address_has_a_need_and_each_need_an_address(make: Make) -> None:
    """An address that is not in the table would need admin; this test tells whoever adds one."""
    app = make()
    with asked(app):
        document = app.openapi()
    described = {
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    }
    pages = {f"{method} {path}" for method in ("GET", "HEAD") for path in ("/", "/docs", "/page/{path}")}
    undescribed = {"HEAD /v2/health/live", "HEAD /v2/health/ready", "GET /metrics"} | pages
    assert described | undescribed == set(NEEDS)
    assert need_of("POST /v1/new") == "admin"


def test_a_key_permits_its_scopes_and_nothing_else(make: Make, tmp_path: Path) -> None:
    """Every address with no key, a wrong one, and one of each scope."""
    keys = {scope: new_key(tmp_path, scope) for scope in SCOPES}
    with asked(make()) as client:
        for place, need in NEEDS.items():
            method, path = (
                place.replace("{name}", "x").replace("{label}", "y").replace("{path}", "app.js").split()
            )

            def answer(headers: dict[str, str], method: str = method, path: str = path) -> tuple[int, str]:
                response = client.request(method, path, headers=headers)
                is_problem = response.headers.get("content-type") == "application/problem+json"
                return response.status_code, response.json()["code"] if is_problem else ""

            for headers in ({}, {"X-API-Key": "ahse_00000000_x"}, {"Authorization": "Basic eDp5"}):
                assert (answer(headers) == (401, "unauthenticated")) == (need != "nothing"), place
            for scope, headers in keys.items():
                is_refused = need in SCOPES and need != scope and scope != "admin"
                assert (answer(headers) == (403, "forbidden")) == is_refused, (place, scope)
        refused = client.get("/v1/models", headers={})
        assert refused.headers["WWW-Authenticate"].startswith("Bearer")
        assert "scope labels" in client.put("/v1/label-sets/x", headers=keys["classify"]).json()["detail"]
        assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 200
        assert client.get("/nothing/here").status_code == 401


def test_both_headers_carry_a_key(make: Make) -> None:
    """The name of the scheme has no case."""
    with asked(make(api_key=SECRET)) as client:
        for headers in (BEARER, {"Authorization": f"bearer  {SECRET} "}, {"X-API-Key": SECRET}):
            assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.get(f"/v1/models?api_key={SECRET}").status_code == 401


def test_wrong_requests_to_health_need_no_key_either(make: Make) -> None:
    """Nothing is hidden there, so they are told what is wrong with them; elsewhere they are not."""
    with asked(make(api_key=SECRET)) as client:
        assert client.put("/v2/health/live").status_code == 405
        assert client.get("/v2/health/nothing").status_code == 404
        assert client.put("/v1/models").status_code == client.get("/v1/nothing").status_code == 401


def test_a_body_without_a_key_is_refused_before_it_is_read(make: Make) -> None:
    """A client that waits for `100 Continue`, as curl does, sends none of its 10 MB."""
    app = make(api_key=SECRET)
    headers = {"content-length": "10000000", "expect": "100-continue"}
    with asked(app):
        assert put_raw(app, headers, []) == (401, 0)


def test_a_key_that_another_process_revokes_ends(make: Make, tmp_path: Path) -> None:
    """And when it was the last one, the service does not become open."""
    command = [sys.executable, "-m", "service.cli", "keys"]
    folder = ["--data-dir", str(tmp_path / "data")]

    def run(*words: str) -> str:
        done = subprocess.run(  # noqa: S603  (our own interpreter and code)
            [*command, *words, *folder], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    app = make()
    with asked(app) as client:
        assert client.get("/v1/models").status_code == 200
        text = run("create", "--name", "k")
        app.state.keys.refresh()
        headers = {"X-API-Key": text}
        assert client.get("/v1/models").status_code == 401
        assert client.get("/v1/models", headers=headers).status_code == 200
        run("revoke", text.split("_")[1])
        app.state.keys.refresh()
        assert client.get("/v1/models", headers=headers).status_code == 401
        assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("started", [{}, {"open": True}, {"host": ""}])
def test_a_worker_that_starts_again_goes_on_needing_keys(
    started: dict[str, Any], toy_bundle: Path, tmp_path: Path
) -> None:
    """However the service was started: it has seen a key since, which may be revoked by now."""
    settings = Settings(bundles=(toy_bundle,), data_dir=tmp_path / "data", decode_workers=1, **started)
    worker = Worker(0, 2, tmp_path / "sockets", "a key", seen_key=c_bool(1))
    with asked(create_app(settings, worker)) as client:
        assert client.get("/v1/models").status_code == 401


def test_an_expired_key_is_told_so(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no longer a key."""
    headers = new_key(tmp_path, "admin")
    monkeypatch.setattr("service.access.keys.ApiKey.has_expired", lambda *_: True)
    with asked(make()) as client:
        response = client.get("/v1/models", headers=headers)
    assert response.status_code == 401
    assert "expired" in response.json()["detail"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104
def test_a_service_that_others_reach_needs_a_key_or_to_be_open(make: Make, host: str) -> None:
    """Else it does not start; if it is open, its log warns."""
    with pytest.raises(SettingsError, match="AHSE_API_KEY"):
        make(host=host)
    with pytest.raises(SettingsError, match="AHSE_API_KEY"):
        make(admin_host=host, admin_port=9000)
    for settings in ({"api_key": SECRET}, {"open": True}):
        with capture_logs() as logs, asked(make(host=host, **settings)) as client:
            assert client.get("/v1/models", headers=BEARER).status_code == 200
        warnings = [log["addresses"] for log in logs if log["event"] == "open"]
        assert warnings == ([[host]] if "open" in settings else [])


def test_the_secret_is_never_printed(make: Make, tmp_path: Path) -> None:
    """Neither by settings, nor by errors, nor in the log, whatever is wrong with the request."""
    headers = new_key(tmp_path, "labels")
    with capture_logs() as logs, asked(make(api_key=SECRET)) as client:
        answers = [
            client.put("/v1/label-sets/x", headers=one, content="no json").text for one in (headers, BEARER)
        ]
        answers += [client.get("/metrics", headers=headers).text, client.get("/v1/info", headers=BEARER).text]
    text = str(logs) + str(answers) + repr(Settings(api_key=SECRET))
    assert SECRET not in text
    assert headers["X-API-Key"] not in text


@pytest.mark.parametrize(
    "key", ["short", "x" * 19, "with a space in the middle of it", "ümlauts-in-a-long-text"]
)
def test_a_key_that_could_be_guessed_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to make one, and does not repeat the key."""
    with pytest.raises(ValueError, match="openssl rand -hex 32"):
        Settings(api_key=key)
    monkeypatch.setenv("AHSE_API_KEY", "")
    assert Settings().api_key is None


def test_the_admin_port_alone_answers_reload_and_metrics(make: Make) -> None:
    """Without a key on loopback, and nothing else but health; the main port answers the rest."""
    app = make(api_key=SECRET, admin_port=9000)
    with asked(app) as main:
        admin = TestClient(app, base_url="http://127.0.0.1:9000")
        reload, metrics = "/v1/models/toy/reload", "/metrics"
        assert admin.post(reload).status_code == admin.get(metrics).status_code == 200
        assert admin.get("/v2/health/live").status_code == main.get("/v2/health/live").status_code == 200
        wrong = [
            main.post(reload, headers=BEARER),
            main.get(metrics, headers=BEARER),
            admin.get("/v1/models", headers=BEARER),
            admin.post("/v1/classify"),
            admin.get("/docs"),
        ]
        assert {(one.status_code, one.json()["code"]) for one in wrong} == {(404, "wrong_port")}
        foreign = admin.post(reload, headers={"Origin": "https://evil.example"})
        rebound = admin.get(metrics, headers={"Host": "evil.example:9000"})
        assert (foreign.status_code, rebound.status_code) == (403, 421)
        assert main.get("/v1/models", headers=BEARER).status_code == 200
        assert main.get("/v1/models").status_code == 401


def test_the_port_is_that_of_the_connection(make: Make) -> None:
    """A client can write any port into Host."""
    with asked(make(api_key=SECRET, admin_port=9000)) as client:
        assert client.get("/metrics", headers={"Host": "127.0.0.1:9000"}).status_code == 404


def test_an_admin_port_that_others_reach_needs_an_admin_key(make: Make, tmp_path: Path) -> None:
    """Only on loopback is whoever reaches it trusted."""
    weak = new_key(tmp_path, "classify")
    app = make(api_key=SECRET, admin_port=9000, admin_host="0.0.0.0")  # noqa: S104
    with asked(app, "http://192.0.2.1:9000") as admin:
        assert admin.get("/metrics").status_code == 401
        assert admin.get("/metrics", headers=weak).status_code == 403
        assert admin.get("/metrics", headers=BEARER).status_code == 200


def test_every_edit_is_recorded_with_who_what_when_and_from_where(make: Make, tmp_path: Path) -> None:
    """Successful ones only; reads and refused edits are not edits."""
    headers = new_key(tmp_path, "labels")
    key_id = headers["X-API-Key"].split("_")[1]
    with (
        capture_logs(processors=[merge_contextvars]) as logs,
        asked(make(api_key=SECRET), client=("192.0.2.7", 1)) as client,
    ):
        one = {**headers, "X-Request-ID": "r1"}
        client.put("/v1/label-sets/x", headers=one, json={"labels": ["a"]})
        client.post("/v1/label-sets/x/labels", headers=headers, json={"labels": ["b\x1b"]})
        client.post("/v1/label-sets/x/labels", headers=headers, json={"labels": ["b c"]})
        client.delete("/v1/label-sets/x/labels/b c", headers=headers)
        client.get("/v1/label-sets/x", headers=headers)
        client.put("/v1/label-sets/x", json={"labels": ["a"]})
        client.post("/v1/models/toy/reload", headers=headers)
        client.delete("/v1/label-sets/x", headers=headers)
        client.post("/v1/models/toy/reload", headers=BEARER)
    edits = [log for log in logs if log["event"] == "edit"]
    assert [(log["action"], log["target"]) for log in edits] == [
        ("put_label_set", "label-sets/x"),
        ("add_labels", "label-sets/x"),
        ("remove_label", "label-sets/x/labels/b%20c"),
        ("delete_label_set", "label-sets/x"),
        ("reload_model", "models/toy"),
    ]
    assert {log["client"] for log in edits} == {"192.0.2.7"}
    assert [(log["key"], log["key_name"]) for log in edits[:4]] == [(key_id, "test")] * 4
    assert (edits[4]["key"], edits[4]["key_name"]) == ("environment", "AHSE_API_KEY")
    assert edits[0]["request_id"] == "r1"


def test_an_edit_is_recorded_whatever_becomes_of_its_answer(make: Make) -> None:
    """The set is stored, and the answer with it does not fit into the memory for answers."""
    small = {"max_json_bytes": 150_000, "max_bytes_in_flight": 150_000}
    sent = {"labels": ["a", "b"], "templates": ["{}" + 490 * "\u20ac" + str(i) for i in range(64)]}
    with capture_logs() as logs, asked(make(**small)) as client:
        body, kind = json.dumps(sent, ensure_ascii=False).encode(), {"Content-Type": "application/json"}
        answer = client.put("/v1/label-sets/x", content=body, headers=kind)
        stored = client.get("/v1/label-sets").json()["label_sets"]
    assert (answer.status_code, answer.json()["code"]) == (429, "overloaded")
    assert stored[0]["n_labels"] == 2
    assert [log["action"] for log in logs if log["event"] == "edit"] == ["put_label_set"]


def test_log_lines_of_a_request_name_its_key(make: Make, clips: dict[str, Path], tmp_path: Path) -> None:
    """The line of the request, also of a refused one; a request without a key has none."""
    headers = new_key(tmp_path, "classify")
    key_id = headers["X-API-Key"].split("_")[1]
    app = make()
    with capture_logs(processors=[merge_contextvars]) as logs, asked(app) as client:
        client.headers.update(headers)
        assert classify(client, clips["red low"], labels=["red", "blue"]).status_code == 200
        client.put("/v1/label-sets/x", json={"labels": []})
        del client.headers["X-API-Key"]
        client.get("/v1/models")
    lines = [(log["status"], log.get("key")) for log in logs if log["event"] == "request"]
    assert lines == [(200, key_id), (403, key_id), (401, None)]


def test_the_document_says_what_each_address_needs(make: Make) -> None:
    """Schemes, scopes, refusals; and that no key is needed where that is so."""
    with asked(make()) as client:
        document = client.get("/openapi.json").json()
        assert document["security"] == [{"bearer": []}, {"apiKey": []}, {}]
    with asked(make(api_key=SECRET)) as client:
        document = client.get("/openapi.json").json()
        assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["apiKey"]["name"]) == ("bearer", "X-API-Key")
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            need = need_of(f"{method.upper()} {path}")
            if need == "nothing":
                assert operation["security"] == []
                assert "401" not in operation["responses"]
            else:
                assert "security" not in operation
                assert {"401", "403", "421", "429"} <= set(operation["responses"]), (path, method)
                assert (need if need in SCOPES else "any API key") in operation["description"]
    refused = document["paths"]["/v1/classify"]["post"]["responses"]["429"]["description"]
    assert refused == "Too Many Requests: overloaded, rate_limited"
