"""Clips from URLs: what is fetched, what is refused, and that limits hold."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api import question
from service.api.app import create_app
from service.api.guard.byte_budget import ByteBudget, ByteShare
from service.api.intake.fetch import Fetcher, FetchLimits
from service.api.thread_pool import cancelling
from service.cancellation import CancellationToken, WorkCancelled
from service.errors import AhseError, BodyTooLargeError, FetchFailedError, UrlRefusedError
from service.settings import Settings
from tests.service.api.conftest import wait_until_tried
from tests.service.api.guard.guarded import Make, asked
from tests.service.api.intake.clip_server import WAIT_S, ClipServer, Names, loopback_network, ok, redirect

LIMITS = FetchLimits(max_bytes=1000, pause_s=WAIT_S, total_s=WAIT_S)
CLIP = bytes(range(256))
_SERVER = {"scheme": "http", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1)}


def _share() -> ByteShare:
    return ByteShare(ByteBudget(10**9))


def _fetch(
    url: str, path: Path, limits: FetchLimits = LIMITS, names: Names | None = None, **how: Any
) -> bytes:
    asyncio.run(Fetcher(limits, loopback_network(names), **how).fetch(url, path, _share()))
    return path.read_bytes()


def test_a_clip_is_fetched_as_it_is(tmp_path: Path) -> None:
    """By GET, with the host's name, without compression, cookies or credentials; the fragment stays here."""
    with ClipServer({"/a%20clip?sig=x&y": ok(CLIP)}) as server:
        assert _fetch(server.url("/a clip?sig=x&y#t=3"), tmp_path / "clip") == CLIP
    (head,) = server.heads
    line, *headers = head.strip().splitlines()
    assert line == "GET /a%20clip?sig=x&y HTTP/1.1"
    assert f"Host: clips.example:{server.port}" in headers
    assert "Accept-Encoding: identity" in headers
    names = {header.partition(":")[0].lower() for header in headers}
    assert names == {"host", "user-agent", "accept", "accept-encoding", "connection"}


def test_proxies_of_the_environment_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would resolve the name themselves, unchecked."""
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with ClipServer({"/": ok(CLIP)}) as server:
        assert _fetch(server.url("/"), tmp_path / "clip") == CLIP


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "http:// or https://"),
        ("data:video/mp4;base64,AAAA", "http:// or https://"),
        ("ftp://clips.example/x", "http:// or https://"),
        ("gopher://clips.example/_x", "http:// or https://"),
        ("concat:a|b", "http:// or https://"),
        ("/etc/passwd", "http:// or https://"),
        ("//clips.example/x", "http:// or https://"),
        ("", "http:// or https://"),
        ("http://", "http:// or https://"),
        ("http:///x", "http:// or https://"),
        ("http://[::1/x", "not well-formed"),
        ("http://127\u3002\uff10.0.1/", "not well-formed"),
        ("http://clips.example:99999/", "ports 80, 443 and 1024"),
        ("http://clips.example/\r\nX: y", "not well-formed"),
        pytest.param("http://clips.example/" + "x" * 100_000, "not well-formed", id="too long"),
        ("http://user:word@clips.example/", "user name or password"),
        ("http://user@clips.example/", "user name or password"),
        ("http://clips.example:25/", "ports 80, 443 and 1024"),
        ("http://clips.example:22/", "ports 80, 443 and 1024"),
        ("https://clips.example:0/", "ports 80, 443 and 1024"),
    ],
)
def test_other_urls_are_refused_before_anything_is_resolved(tmp_path: Path, url: str, why: str) -> None:
    """Other schemes, damaged ones, credentials, and ports of other services."""
    names = Names({"clips.example": [["127.0.0.1"]]})
    with pytest.raises(UrlRefusedError, match=why):
        _fetch(url, tmp_path / "clip", names=names)
    assert names.asked == []


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://localhost:8000/",
        ),
        *(
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:10.0.0.1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
        ),
        *("http://[fd00:ec2::254]/", "http://0/", "https://10.0.0.1:8443/"),
    ],
)
def test_private_addresses_are_refused_by_the_real_rule(tmp_path: Path, url: str) -> None:
    """Whatever way they are written; the text does not repeat them."""
    with pytest.raises(UrlRefusedError, match="no address on the public internet") as refused:
        asyncio.run(Fetcher(LIMITS).fetch(url, tmp_path / "clip", _share()))
    assert "127" not in refused.value.message
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(tmp_path: Path, status: int) -> None:
    """Relative and absolute ones, five in a row, always by GET."""
    answers = {
        "/0": redirect("/1", status),
        "/1": redirect("2?x=y", status),
        "/2?x=y": redirect("#z", status),
    }
    with ClipServer(answers) as server:
        answers["/2?x=y"] = redirect(f"//clips.example:{server.port}/3", status)
        answers["/3"] = redirect(server.url("/4"), status)
        answers["/4"] = redirect("/5", status)
        answers["/5"] = ok(CLIP)
        assert _fetch(server.url("/0"), tmp_path / "clip") == CLIP
        assert [head.partition(" ")[0] for head in server.heads] == ["GET"] * 6
        answers["/5"] = redirect("/6")
        with pytest.raises(FetchFailedError, match="more than 5 times"):
            _fetch(server.url("/0"), tmp_path / "clip")
    assert len(server.heads) == 12


@pytest.mark.parametrize(
    "location",
    [
        *("file:///etc/passwd", "data:,x", "http://user:word@clips.example/", "http://clips.example:22/"),
        *("http://private.example/", "http://10.0.0.1/", "http://[::1]:80/", "http://unknown.example/"),
        *("http://[::1/", "http://clips.example:99999/"),
    ],
)
def test_a_redirect_is_checked_as_the_url_itself(tmp_path: Path, location: str) -> None:
    """Its scheme, its credentials, its port, and where its host is."""
    names = Names(
        {
            "clips.example": [["127.0.0.1"]],
            "private.example": [["10.0.0.1"]],
            "10.0.0.1": [["10.0.0.1"]],
            "::1": [["::1"]],
        }
    )
    with ClipServer({"/": redirect(location)}) as server, pytest.raises(UrlRefusedError):
        _fetch(server.url("/"), tmp_path / "clip", names=names)
    assert len(server.heads) == 1


def test_each_redirect_is_resolved_again_and_checked(tmp_path: Path) -> None:
    """A name that was public for the first request and is private for the second is refused."""
    names = Names({"clips.example": [["127.0.0.1"], ["10.0.0.1"]]})
    with ClipServer({"/": redirect("/next"), "/next": ok(CLIP)}) as server, pytest.raises(UrlRefusedError):
        _fetch(server.url("/"), tmp_path / "clip", names=names)
    assert (len(server.heads), len(names.asked)) == (1, 2)


@pytest.mark.parametrize(
    ("answer", "error", "why"),
    [
        (ok(b"x" * 1001), BodyTooLargeError, "larger than the 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", BodyTooLargeError, "1000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001, BodyTooLargeError, "1000 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"191\r\n"
            + b"x" * 401
            + b"\r\n258\r\n"
            + b"x" * 600,
            BodyTooLargeError,
            "1000 bytes",
        ),
        (ok(gzip.compress(b"x" * 10**6)[:900], "Content-Encoding: gzip"), FetchFailedError, "compresses"),
        (ok(b"no", status="404 Not Found"), FetchFailedError, "status 404"),
        (ok(b"part", status="206 Partial Content"), FetchFailedError, "status 206"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", FetchFailedError, "status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", FetchFailedError, "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", FetchFailedError, "HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, FetchFailedError, "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", FetchFailedError, "HTTP"),
        (b"", FetchFailedError, "broke off"),
    ],
)
def test_answers_that_are_no_clip(tmp_path: Path, answer: bytes, error: type[AhseError], why: str) -> None:
    """Too large with and without a length, compressed, another status, broken off, no HTTP."""
    with ClipServer({"/": answer}) as server, pytest.raises(error, match=why):
        _fetch(server.url("/"), tmp_path / "clip")


def test_a_declared_length_over_the_limit_is_refused_before_the_body(tmp_path: Path) -> None:
    """The body never comes here, so waiting for it would end the test otherwise."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"
    with ClipServer({"/": head}, stalls=frozenset({"/"})) as server, pytest.raises(BodyTooLargeError):
        _fetch(server.url("/"), tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
def test_a_server_that_stops_sending_is_left(tmp_path: Path, sent: bytes) -> None:
    """Before the answer or in the middle: by the longest pause, and by the longest time of all."""
    for limits, why in [
        (replace(LIMITS, pause_s=0.05), "sent nothing for 0.05 s"),
        (replace(LIMITS, total_s=0.05), "within 0.05 s"),
    ]:
        server = ClipServer({"/": sent}, stalls=frozenset({"/"}))
        with server, pytest.raises(FetchFailedError, match=why):
            _fetch(server.url("/"), tmp_path / "clip", limits)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """The text says so without the words of a library."""
    with ClipServer({}) as server:
        url = server.url("/")
    with pytest.raises(FetchFailedError, match=r"^The server of the URL could not be connected to\.$"):
        _fetch(url, tmp_path / "clip")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificate of clips.example, signed by itself, and its key in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the command openssl, which makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "clips.pem"
    words = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=clips.example"
    )
    more = ["-addext", "subjectAltName=DNS:clips.example", "-keyout", path, "-out", path.with_suffix(".crt")]
    subprocess.run([openssl, *words.split(), *map(str, more)], check=True, capture_output=True)  # noqa: S603
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def test_the_name_in_tls_stays_the_host_of_the_url(tmp_path: Path, certificate: Path) -> None:
    """The connection goes to an address, the certificate is that of the name; others are refused."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    asked: list[str] = []
    tls.sni_callback = lambda _, name, __: asked.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate))
    names = Names({"clips.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]})
    with ClipServer({"/": ok(CLIP), "/down": redirect("http://clips.example/")}, tls=tls) as server:
        url = server.url("/", scheme="https")
        assert _fetch(url, tmp_path / "clip", names=names, tls=trusting) == CLIP
        assert asked == ["clips.example"]
        assert f"Host: clips.example:{server.port}" in server.heads[0]
        wrong_name = server.url("/", "other.example", "https")
        for refused, trusts in [(wrong_name, trusting), (url, None)]:
            with pytest.raises(
                FetchFailedError, match="certificate of the URL's server could not be verified"
            ):
                _fetch(refused, tmp_path / "clip", names=names, tls=trusts)
        with pytest.raises(UrlRefusedError, match="from https to http"):
            _fetch(server.url("/down", scheme="https"), tmp_path / "clip", names=names, tls=trusting)


def test_a_download_stops_with_its_request(tmp_path: Path) -> None:
    """Its place would otherwise stay taken for as long as the server likes."""

    async def leave() -> None:
        token = CancellationToken()
        with token.active():
            task = asyncio.create_task(
                Fetcher(LIMITS, loopback_network()).fetch(server.url("/"), tmp_path / "c", _share())
            )
        await asyncio.to_thread(server.entered.acquire)
        asyncio.get_running_loop().call_soon(token.cancel)
        with pytest.raises(WorkCancelled), token.active(), cancelling("fetch", task.cancel):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with ClipServer({"/": b""}, stalls=frozenset({"/"})) as server:
        asyncio.run(leave())


class _Fetcher:
    """Stands for the fetcher: a download takes seven seconds of a clock that stands still else."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.urls: list[str] = []
        self.now = 1000.0

    async def fetch(self, url: str, path: Path, _: ByteShare) -> None:
        """Write the clip."""
        self.urls.append(url)
        self.now += 7
        path.write_bytes(self.content)

    @property
    def clock(self) -> Any:
        """In place of the module `time`."""
        return SimpleNamespace(perf_counter=lambda: self.now)


@pytest.fixture
def fetcher(clips: dict[str, Path]) -> _Fetcher:
    """Fetches a clip from everywhere."""
    return _Fetcher(clips["red low"].read_bytes())


@pytest.fixture
def fetching(make: Make, fetcher: Any) -> Iterator[TestClient]:
    """A service with it."""
    app = make()
    app.state.context = replace(app.state.context, fetcher=fetcher)
    with asked(app) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        ("/v1/classify", {"labels": "red", "bundle": "nope"}, "unknown_bundle"),
        ("/v1/classify", {"labels": "red", "top_k": "0"}, "invalid_option"),
        ("/v1/classify", {"label_set": "nowhere"}, "unknown_label_set"),
        ("/v1/embeddings", {"model": "nope"}, "unknown_bundle"),
        ("/v1/embeddings", {"model": "toy", "labels": "red"}, "invalid_request"),
    ],
)
def test_what_is_wrong_with_the_fields_is_told_before_a_download(
    fetching: TestClient, fetcher: _Fetcher, path: str, fields: dict[str, str], code: str
) -> None:
    """Which may be 512 MiB."""
    answer = fetching.post(path, files=_as_parts({"url": "http://clips.example/", **fields}))
    assert answer.json()["code"] == code
    assert fetcher.urls == []


def _as_parts(fields: dict[str, str]) -> dict[str, tuple[None, str]]:
    return {name: (None, value) for name, value in fields.items()}


def test_a_download_takes_the_time_of_an_upload(
    fetching: TestClient, fetcher: _Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And none of the other steps; all of it is in the sum."""
    monkeypatch.setattr(question, "time", fetcher.clock)
    answer = _ask(fetching, _url("http://clips.example/")).json()
    upload_ms = answer["timings_ms"]["upload"]
    assert 7000 <= upload_ms < 67_000
    assert [answer["timings_ms"][step] for step in ("wait", "labels", "total")] == [0, 0, upload_ms]


def test_a_url_is_embedded_as_its_clip_is(fetching: TestClient, fetcher: _Fetcher) -> None:
    """At /v1/embeddings too, in a form or in the query; it is documented there."""
    sent = fetching.post("/v1/embeddings", files={"file": ("c", fetcher.content)}, data={"model": "toy"})
    form = fetching.post("/v1/embeddings", files=_as_parts({"url": "http://a.example/", "model": "toy"}))
    query = fetching.post("/v1/embeddings?url=http://b.example/", files=_as_parts({"model": "toy"}))
    document = fetching.get("/openapi.json").json()["components"]["schemas"]["EmbeddingsForm"]
    assert sent.json()["data"] == form.json()["data"] == query.json()["data"]
    assert fetcher.urls == ["http://a.example/", "http://b.example/"]
    assert document["properties"]["url"]["format"] == "uri"
    assert document["oneOf"] == [{"required": [one]} for one in ("file", "files", "url")]


@pytest.mark.parametrize(
    ("path", "fields"), [("/v1/classify", {"labels": "red"}), ("/v1/embeddings", {"model": "toy"})]
)
def test_a_download_ends_when_its_client_leaves(make: Make, path: str, fields: dict[str, str]) -> None:
    """However long the server of the clip would take."""
    app = make()
    statuses: list[int] = []
    with asked(app) as client, ClipServer({"/": b""}, stalls=frozenset({"/"})) as server:
        limits = FetchLimits(1000, WAIT_S, WAIT_S)
        app.state.context = replace(app.state.context, fetcher=Fetcher(limits, loopback_network()))
        parts = _as_parts({"url": server.url("/"), **fields})
        request = client.build_request("POST", path, files=parts)

        async def exchange() -> None:
            messages = [{"type": "http.request", "body": request.read()}]

            async def receive() -> Any:
                if messages:
                    return messages.pop()
                await asyncio.to_thread(server.entered.acquire)
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                statuses.append(message.get("status", 0))

            headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
            scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
            await app({**scope, **_SERVER}, receive, send)

        assert client.portal is not None
        client.portal.call(exchange)
        measured = app.state.context.metrics.text().decode()
    assert statuses == []
    assert 'ahse_dropped_requests_total{waited_for="fetch"} 1.0' in measured


def _ask(client: TestClient, *files: tuple[str, tuple[str | None, str | bytes]]) -> Any:
    return client.post("/v1/classify", files=[("labels", (None, '["red","blue"]')), *files])


def _url(url: str) -> tuple[str, tuple[str | None, str | bytes]]:
    return ("url", (None, url))


def test_without_the_setting_the_answer_names_it(client: TestClient) -> None:
    """Off by default."""
    refused = _ask(client, _url("http://clips.example/"))
    assert (refused.status_code, refused.json()["code"]) == (422, "url_refused")
    assert "AHSE_URL_INPUT=1" in refused.json()["detail"]


def test_a_url_in_place_of_a_file(
    toy_bundle: Path, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classified as if it had been uploaded, with typed errors, and deleted; the real rule is the default."""
    monkeypatch.setenv("AHSE_URL_INPUT", "1")
    settings = Settings(
        bundles=(toy_bundle,), data_dir=tmp_path, upload_dir=tmp_path, max_upload_bytes=200_000
    )
    clip = clips["red low"].read_bytes()
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n"
    answers = {"/clip": ok(clip), "/large": ok(b"x" * 200_001), "/list.m3u8": ok(playlist), "/none": ok(b"")}
    app = create_app(settings)
    with TestClient(app) as client, ClipServer(answers) as server:
        wait_until_tried(app)
        private = _ask(client, _url(server.url("/clip", "127.0.0.1")))
        limits = FetchLimits(settings.max_upload_bytes, settings.upload_pause_s, settings.request_timeout_s)
        app.state.context = replace(app.state.context, fetcher=Fetcher(limits, loopback_network()))
        sent = _ask(client, ("file", ("clip.mp4", clip)))
        fetched = _ask(client, _url(server.url("/clip")))
        codes = {path: _ask(client, _url(server.url(path))).json()["code"] for path in [*answers, "/x"][1:]}
        both = _ask(client, _url(server.url("/clip")), ("file", ("clip.mp4", clip)))
        twice = _ask(client, _url(server.url("/clip")), _url(server.url("/clip")))
        neither = _ask(client)
        form = client.get("/openapi.json").json()["components"]["schemas"]["ClassifyForm"]
        (uploads,) = tmp_path.glob("ahse-uploads-*")
        assert [left.name for left in uploads.iterdir()] == ["lock"]
    assert (private.status_code, private.json()["code"]) == (422, "url_refused")
    assert fetched.status_code == 200
    assert json.dumps(fetched.json()["predictions"]) == json.dumps(sent.json()["predictions"])
    assert codes == {
        "/large": "body_too_large",
        "/list.m3u8": "not_media",
        "/none": "empty_file",
        "/x": "fetch_failed",
    }
    for response in (both, twice):
        assert (response.status_code, response.json()["code"]) == (422, "invalid_option")
        assert "either a file or one url" in response.json()["detail"]
    assert neither.json()["code"] == "missing_file"
    assert {"oneOf": [{"required": [one]} for one in ("file", "files", "url")]} in form["allOf"]
    assert len(server.heads) == 5
