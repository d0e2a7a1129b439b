"""An app on the toy bundle, asked over ASGI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.api.app import create_app
from service.settings import Settings
from tests.service.api.guarded import Make
from tests.toy import write_toy_bundle


@pytest.fixture(scope="module")
def client(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A running service with two bundles, `toy` and `other`, and small limits."""
    folder = tmp_path_factory.mktemp("service")
    other = write_toy_bundle(folder / "other", name="other")
    settings = Settings(
        bundles=(toy_bundle, other),
        data_dir=folder / "data",
        max_upload_bytes=2_000_000,
        max_json_bytes=200_000,
        max_labels=50,
        max_labels_per_set=60,
        decode_workers=1,
        decode_timeout_s=60,
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as running:
        wait_until_tried(running.app)
        yield running


def wait_until_tried(app: Any) -> None:
    """Wait for the first health checks, which use all parts; for a while then only requests do."""
    assert app.state.context.health.wait_for_first(60)


def classify(client: TestClient, clip: Path | bytes, **fields: Any) -> Any:
    """POST /v1/classify; a field's list is sent as repeated fields."""
    content = clip if isinstance(clip, bytes) else clip.read_bytes()
    return client.post("/v1/classify", files={"file": ("clip.mp4", content)}, data=fields)


@pytest.fixture
def make(toy_bundle: Path, tmp_path: Path) -> Make:
    """Makes an app with settings, on the data directory of the test."""

    def made(**settings: Any) -> FastAPI:
        given = {"allowed_hosts": (), "decode_workers": 1, **settings}
        return create_app(Settings(bundles=(toy_bundle,), data_dir=tmp_path / "data", **given))

    return made
