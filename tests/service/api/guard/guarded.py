"""Services with keys, and requests to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message

from service.access.keys import Quotas, Scope, make_key
from service.access.sqlite import SqliteKeyStore

HERE = "http://127.0.0.1:8000"
SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105  (of this test)
BEARER = {"Authorization": f"Bearer {SECRET}"}
Make = Callable[..., FastAPI]


@contextmanager
def asked(app: FastAPI, address: str = HERE, **options: Any) -> Iterator[TestClient]:
    """Run an app and ask it, by default at an address on loopback."""
    with TestClient(app, base_url=address, **options) as client:
        assert app.state.context.health.wait_for_first(60)
        yield client


def new_key(folder: Path, *scopes: Scope, rate: str | None = None, **quotas: int) -> dict[str, str]:
    """Make a key as another process would; returns the header that carries it."""
    key, text = make_key("test", frozenset(scopes), rate=rate, quotas=Quotas(**quotas))
    store = SqliteKeyStore(folder / "data" / "keys.sqlite3")
    store.create(key)
    store.close()
    return {"X-API-Key": text}


def put_raw(app: FastAPI, headers: dict[str, str], chunks: list[bytes]) -> tuple[int, int]:
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
