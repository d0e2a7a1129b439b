"""A hub on this machine: huggingface.co's addresses, headers and refusals, with faults on order."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

_IN_GIT = (".json", ".txt")


class Asked(NamedTuple):
    """One request: what was asked, for which part, and with whose token."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class LoopbackHub:
    """The state of the server; tests change it between requests.

    Attributes:
        files: Content by repository and name.
        cards: What the model card of a repository says.
        gated: Repositories that want this token.
        etags: Hashes that the hub claims instead of the right ones.
        cuts: Offsets, one for each transfer to come, where its connection is dropped.
        obeys_range: Whether a part of a file can be asked for.
        status: What every request is refused with.
        passing: Refusals, one for each request to come: a status and headers.
        rejected: A token that is no good, whatever is asked for.
        asked: All requests so far.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    cards: dict[str, dict[str, str]] = field(default_factory=dict)
    gated: dict[str, str] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    obeys_range: bool = True
    status: int | None = None
    passing: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    rejected: str | None = None
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT would say."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def transfers(self) -> list[Asked]:
        """The requests that asked for content."""
        return [asked for asked in self.asked if asked.method == "GET" and "/api/" not in asked.path]

    def commit(self, repo: str) -> str:
        """Another one for other content."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(self.files[repo].items()):
            digest.update(name.encode() + content)
        return digest.hexdigest()

    def etag(self, name: str, content: bytes) -> str:
        """Git's hash of a small file, SHA-256 of a large one; written out here as an oracle of its own."""
        if name in self.etags:
            return self.etags[name]
        if name.endswith(_IN_GIT):
            return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        return hashlib.sha256(content).hexdigest()


@contextmanager
def serving(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """Serve it on a free port for as long as the block lasts."""

    class Handler(_Handler):
        state = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: LoopbackHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name in the base class)
        """Quiet."""

    def _answer(self) -> None:
        token = self.headers["Authorization"]
        self.state.asked.append(Asked(self.command, self.path, self.headers["Range"], token))
        if self.state.passing:
            self._send(*self.state.passing.pop(0))
        elif self.state.status is not None:
            self._send(self.state.status, {})
        elif self.state.rejected and token == f"Bearer {self.state.rejected}":
            self._send(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif self.path.startswith("/cdn/"):
            _, _, owner, name, file = self.path.split("/")
            self._content(self.state.files[f"{owner}/{name}"][file], {})
        elif self.path.startswith("/api/models/"):
            self._model(self.path.removeprefix("/api/models/"))
        else:
            repo, _, rest = self.path.removeprefix("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._resolve(repo, revision, name, token)

    def _model(self, repo: str) -> None:
        if repo not in self.state.cards:
            self._send(404, {"X-Error-Code": "RepoNotFound"})
            return
        body = json.dumps({"id": repo, "tags": [], "siblings": [], "cardData": self.state.cards[repo]})
        self._send(200, {}, body.encode())

    def _resolve(self, repo: str, revision: str, name: str, token: str | None) -> None:
        if repo not in self.state.files:
            self._send(404, {"X-Error-Code": "RepoNotFound"})
            return
        commit = {"X-Repo-Commit": self.state.commit(repo)}
        if repo in self.state.gated and token != f"Bearer {self.state.gated[repo]}":
            self._send(401, {"X-Error-Code": "GatedRepo"})
        elif revision not in ("main", self.state.commit(repo)):
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        elif name not in self.state.files[repo]:
            self._send(404, commit | {"X-Error-Code": "EntryNotFound"})
        else:
            self._found(repo, name, self.state.files[repo][name], commit)

    def _found(self, repo: str, name: str, content: bytes, headers: dict[str, str]) -> None:
        """Small files are answered at once, large ones live on another host."""
        etag = f'"{self.state.etag(name, content)}"'
        if name.endswith(_IN_GIT):
            self._content(content, headers | {"ETag": etag})
            return
        linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
        cdn = f"http://localhost:{self.state.port}/cdn/{repo}/{name}"
        self._send(302, headers | linked | {"Location": cdn})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.state.obeys_range else 0
        if start:
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        cut = self.state.cuts.pop(0) if self.state.cuts and self.command == "GET" else len(content)
        self._send(206 if start else 200, headers, content[start:], n_sent=max(cut - start, 0))

    def _send(
        self, status: int, headers: dict[str, str], body: bytes = b"", n_sent: int | None = None
    ) -> None:
        """Promise the whole body, send as much as the fault leaves of it; HTTP/1.0 then closes."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:n_sent])
