"""Who may do what: keys, scopes, hosts, origins, rates, quotas, the admin port, the audit log."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from service.access.key_store import KeyStore
from service.access.keys import SCOPES, Quotas, Scope, make_key
from service.api.app import create_app
from service.api.connection_options import connection_options
from service.api.scopes import NEEDS, need_of
from service.errors import SettingsError
from service.settings import Settings
from tests.service.api.conftest import classify

HERE = "http://127.0.0.1:8000"
SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105  (of this test)
BEARER = {"Authorization": f"Bearer {SECRET}"}
Make = Callable[..., FastAPI]


@pytest.fixture
def make(toy_bundle: Path, tmp_path: Path) -> Make:
    """Makes an app with settings, on the data directory of the test."""

    def made(**settings: Any) -> FastAPI:
        given = {"allowed_hosts": (), "decode_workers": 1, **settings}
        return create_app(Settings(bundles=(toy_bundle,), data_dir=tmp_path / "data", **given))

    return made


@contextmanager
def _asked(app: FastAPI, address: str = HERE, **options: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url=address, **options) as client:
        yield client


def _new_key(folder: Path, *scopes: Scope, rate: str | None = None, **quotas: int) -> dict[str, str]:
    """Make a key as another process would; returns the header that carries it."""
    key, text = make_key("test", frozenset(scopes), rate=rate, quotas=Quotas(**quotas))
    store = KeyStore(folder / "data" / "keys.sqlite3")
    store.create(key)
    store.close()
    return {"X-API-Key": text}


def _put_raw(app: FastAPI, headers: dict[str, str], chunks: list[bytes]) -> tuple[int, int]:
    """PUT a label set whose body comes in chunks; returns the status and how many were read."""
    status, n_read = 0, 0

    async def receive() -> Message:
        nonlocal n_read
        assert n_read < len(chunks), "more of the body was read"
        n_read += 1
        return {"type": "http.request", "body": chunks[n_read - 1], "more_body": n_read < len(chunks)}

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    path = "/v1/label-sets/x"
    sent = {"host": "127.0.0.1", "content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(app(scope, receive, send))
    return status, n_read


# Keys and scopes.


def test_each_address_has_a_need_and_each_need_an_address(make: Make) -> None:
    """An address that is not in the table would need admin; this test tells whoever adds one."""
    app = make()
    with _asked(app):
        document = app.openapi()
    described = {
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    }
    undescribed = {"HEAD /v2/health/live", "HEAD /v2/health/ready", "GET /metrics"}
    assert described | undescribed == set(NEEDS)
    assert need_of("POST /v1/new") == "admin"


def test_a_key_permits_its_scopes_and_nothing_else(make: Make, tmp_path: Path) -> None:
    """Every address with no key, a wrong one, and one of each scope."""
    keys = {scope: _new_key(tmp_path, scope) for scope in SCOPES}
    with _asked(make()) as client:
        for place, need in NEEDS.items():
            method, path = place.replace("{name}", "x").replace("{label}", "y").split()

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
    with _asked(make(api_key=SECRET)) as client:
        for headers in (BEARER, {"Authorization": f"bearer  {SECRET} "}, {"X-API-Key": SECRET}):
            assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.get(f"/v1/models?api_key={SECRET}").status_code == 401


def test_a_body_without_a_key_is_refused_before_it_is_read(make: Make) -> None:
    """A client that waits for `100 Continue`, as curl does, sends none of its 10 MB."""
    app = make(api_key=SECRET)
    headers = {"content-length": "10000000", "expect": "100-continue"}
    with _asked(app):
        assert _put_raw(app, headers, []) == (401, 0)


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
    with _asked(app) as client:
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


def test_an_expired_key_is_told_so(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no longer a key."""
    headers = _new_key(tmp_path, "admin")
    monkeypatch.setattr("service.access.keys.ApiKey.has_expired", lambda *_: True)
    with _asked(make()) as client:
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
        with capture_logs() as logs, _asked(make(host=host, **settings)) as client:
            assert client.get("/v1/models", headers=BEARER).status_code == 200
        warnings = [log["addresses"] for log in logs if log["event"] == "open"]
        assert warnings == ([[host]] if "open" in settings else [])


def test_the_secret_is_never_printed(make: Make, tmp_path: Path) -> None:
    """Neither by settings, nor by errors, nor in the log, whatever is wrong with the request."""
    headers = _new_key(tmp_path, "labels")
    with capture_logs() as logs, _asked(make(api_key=SECRET)) as client:
        answers = [
            client.put("/v1/label-sets/x", headers=one, content="no json").text for one in (headers, BEARER)
        ]
        answers += [client.get("/metrics", headers=headers).text, client.get("/v1/info", headers=BEARER).text]
    text = str(logs) + str(answers) + repr(Settings(api_key=SECRET))  # type: ignore[arg-type]
    assert SECRET not in text
    assert headers["X-API-Key"] not in text


@pytest.mark.parametrize(
    "key", ["short", "x" * 19, "with a space in the middle of it", "ümlauts-in-a-long-text"]
)
def test_a_key_that_could_be_guessed_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to make one, and does not repeat the key."""
    with pytest.raises(ValueError, match="openssl rand -hex 32"):
        Settings(api_key=key)  # type: ignore[arg-type]
    monkeypatch.setenv("AHSE_API_KEY", "")
    assert Settings().api_key is None


# Hosts and origins.


def test_a_name_that_was_rebound_to_this_machine_is_refused(make: Make) -> None:
    """What a browser sends for http://evil.example, once that name leads to 127.0.0.1."""
    with _asked(make()) as client:
        refused = client.get("/v1/label-sets", headers={"Host": "evil.example:8000"})
        assert (refused.status_code, refused.json()["code"]) == (421, "host_not_allowed")
        for host in ("127.0.0.1:8000", "localhost", "[::1]:8000"):
            assert client.get("/v1/label-sets", headers={"Host": host}).status_code == 200
        assert client.get("/v2/health/live", headers={"Host": "probe.example"}).status_code == 200


def test_hosts_are_allowed_by_name(make: Make) -> None:
    """With keys any is, unless there is a list."""
    with _asked(make(allowed_hosts=("good.example",))) as client:
        assert client.get("/v1/models", headers={"Host": "Good.example"}).status_code == 200
        assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421
    with _asked(make(api_key=SECRET)) as client:
        assert client.get("/v1/models", headers={"Host": "any.example", **BEARER}).status_code == 200
    with _asked(make(api_key=SECRET, allowed_hosts=("good.example",))) as client:
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
    with _asked(make()) as client:
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
    with _asked(make(cors_origins=("https://friend.example",))) as client:
        assert client.put("/v1/label-sets/x", headers=sent, json={"labels": ["a"]}).status_code == 201


def test_allowed_sites_can_ask_first_and_read_the_answers(make: Make) -> None:
    """A preflight request carries no key; refusals can be read too."""
    asks = {
        "Origin": "https://friend.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, if-match, content-type",
    }
    with _asked(make(cors_origins=("https://friend.example",), api_key=SECRET)) as client:
        allowed = client.options("/v1/label-sets/x", headers=asks)
        assert allowed.status_code == 200
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://friend.example"
        refused = client.options("/v1/label-sets/x", headers={**asks, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in refused.headers
        answer = client.get("/v1/models", headers={"Origin": "https://friend.example"})
        assert answer.status_code == 401
        assert answer.headers["Access-Control-Allow-Origin"] == "https://friend.example"
        exposed = {name.strip() for name in answer.headers["Access-Control-Expose-Headers"].split(",")}
        assert exposed == {"ETag", "Location", "Retry-After", "X-Request-ID", "Server-Timing"}
        assert "Access-Control-Allow-Credentials" not in answer.headers
    with _asked(make(api_key=SECRET)) as client:
        off = client.options("/v1/label-sets/x", headers=asks)
        assert not [name for name in off.headers if name.startswith("access-control")]


# Rates and quotas.


def test_a_key_and_an_address_have_a_rate(make: Make, tmp_path: Path) -> None:
    """Health and metrics have none. Wrong keys are counted by address, so none can be found by trying."""
    own, admin = _new_key(tmp_path, "classify", rate="1/hour"), _new_key(tmp_path, "admin")
    with _asked(make(rate_limit="2/hour")) as client:

        def statuses(headers: dict[str, str], path: str = "/v1/models") -> list[int]:
            return [client.get(path, headers=headers).status_code for _ in range(3)]

        assert statuses(own) == [200, 429, 429]
        assert statuses(admin) == [200, 200, 429]
        assert statuses(admin, "/metrics") == [200, 200, 200]
        assert statuses({"X-API-Key": "wrong"}) == [401, 401, 429]
        assert statuses({}, "/v2/health/ready") == [200, 200, 200]
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
    with capture_logs() as logs, _asked(app):
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
    with capture_logs() as logs, _asked(app):
        sent = {"X-Forwarded-For": "203.0.113.1, 192.0.2.7, 10.0.0.2", "X-Forwarded-Proto": "https"}
        made = served.put("/v1/label-sets/x", headers=sent, json={"labels": []})
        other = served.get("/v1/models", headers={"X-Forwarded-For": "203.0.113.1, 192.0.2.8"})
        again = served.get("/v1/models", headers={"X-Forwarded-For": "203.0.113.2, 192.0.2.7"})
    assert (made.status_code, other.status_code, again.status_code) == (201, 200, 429)
    assert [log["client"] for log in logs if log["event"] == "edit"] == ["192.0.2.7"]
    assert "Strict-Transport-Security" in made.headers


def test_a_key_owns_no_more_than_its_quotas(make: Make, tmp_path: Path) -> None:
    """The answer has the numbers; another key is not concerned."""
    small = _new_key(tmp_path, "labels", label_sets=1, labels=2)
    large = _new_key(tmp_path, "labels")
    with _asked(make()) as client:

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
    headers = _new_key(tmp_path, "classify", "labels", bytes_per_day=1000)
    body = b'{"labels": ["a"]' + b" " * 384 + b"}"
    json = {"Content-Type": "application/json", **headers}
    app = make()
    with _asked(app) as client:
        clip = clips["red low"].read_bytes()
        whole = client.post("/v1/classify", headers=headers, files={"file": clip})
        assert (whole.status_code, whole.json()["code"]) == (403, "quota_exceeded")
        assert "may send 1000 bytes a day" in whole.json()["detail"]
        assert client.put("/v1/label-sets/x", headers=json, content=body).status_code == 201
        assert _put_raw(app, json, [body[:100], body[100:]])[0] == 200
        left = 1000 - 2 * len(body)
        declared = client.put("/v1/label-sets/x", headers=json, content=body)
        assert (declared.status_code, declared.json()["code"]) == (429, "rate_limited")
        assert f"1000 bytes a day; {left} are left" in declared.json()["detail"]
        assert int(declared.headers["Retry-After"]) > 86_000
        assert _put_raw(app, json, [b" " * left]) == (400, 1)
        assert _put_raw(app, json, [b" "] * 3) == (429, 3)
        assert _put_raw(app, {**json, "Expect": "100-continue"}, [b" "]) == (429, 1)


# The admin port.


def test_the_admin_port_alone_answers_reload_and_metrics(make: Make) -> None:
    """Without a key on loopback, and nothing else but health; the main port answers the rest."""
    app = make(api_key=SECRET, admin_port=9000)
    with _asked(app) as main:
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
    with _asked(make(api_key=SECRET, admin_port=9000)) as client:
        assert client.get("/metrics", headers={"Host": "127.0.0.1:9000"}).status_code == 404


def test_an_admin_port_that_others_reach_needs_an_admin_key(make: Make, tmp_path: Path) -> None:
    """Only on loopback is whoever reaches it trusted."""
    weak = _new_key(tmp_path, "classify")
    app = make(api_key=SECRET, admin_port=9000, admin_host="0.0.0.0")  # noqa: S104
    with _asked(app, "http://192.0.2.1:9000") as admin:
        assert admin.get("/metrics").status_code == 401
        assert admin.get("/metrics", headers=weak).status_code == 403
        assert admin.get("/metrics", headers=BEARER).status_code == 200


# Logs.


def test_every_edit_is_recorded_with_who_what_when_and_from_where(make: Make, tmp_path: Path) -> None:
    """Successful ones only; reads and refused edits are not edits."""
    headers = _new_key(tmp_path, "labels")
    key_id = headers["X-API-Key"].split("_")[1]
    with capture_logs() as logs, _asked(make(api_key=SECRET), client=("192.0.2.7", 1)) as client:
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
        ("put_label_set", "/v1/label-sets/x"),
        ("add_labels", "/v1/label-sets/x/labels"),
        ("remove_label", "/v1/label-sets/x/labels/b%20c"),
        ("delete_label_set", "/v1/label-sets/x"),
        ("reload_model", "/v1/models/toy/reload"),
    ]
    assert {log["client"] for log in edits} == {"192.0.2.7"}
    assert [(log["key"], log["key_name"]) for log in edits[:4]] == [(key_id, "test")] * 4
    assert (edits[4]["key"], edits[4]["key_name"]) == ("environment", "AHSE_API_KEY")
    assert edits[0]["request_id"] == "r1"


def test_log_lines_of_a_request_name_its_key(make: Make, clips: dict[str, Path], tmp_path: Path) -> None:
    """The line of the request, also of a refused one; a request without a key has none."""
    headers = _new_key(tmp_path, "classify")
    key_id = headers["X-API-Key"].split("_")[1]
    app = make()
    with capture_logs(processors=[merge_contextvars]) as logs, _asked(app) as client:
        client.headers.update(headers)
        assert classify(client, clips["red low"], labels=["red", "blue"]).status_code == 200
        client.put("/v1/label-sets/x", json={"labels": []})
        del client.headers["X-API-Key"]
        client.get("/v1/models")
    lines = [(log["status"], log.get("key")) for log in logs if log["event"] == "request"]
    assert lines == [(200, key_id), (403, key_id), (401, None)]


# The OpenAPI document.


def test_the_document_says_what_each_address_needs(make: Make) -> None:
    """Schemes, scopes, refusals; and that no key is needed where that is so."""
    with _asked(make()) as client:
        document = client.get("/openapi.json").json()
        assert document["security"] == [{"bearer": []}, {"apiKey": []}, {}]
    with _asked(make(api_key=SECRET)) as client:
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
