"""What browsers are told about each answer."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from service.registry import Registry

DATA = "default-src 'none'; frame-ancestors 'none'"


def _headers(client: TestClient, method: str, path: str, **options: object) -> dict[str, str]:
    response = client.request(method, path, **options)  # type: ignore[arg-type]
    return dict(response.headers)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v2/health/live"),
        ("GET", "/metrics"),
        ("GET", "/nothing/here"),
        ("PATCH", "/v1/info"),
        ("POST", "/v1/classify"),
    ],
)
def test_an_answer_is_data_and_nothing_else(client: TestClient, method: str, path: str) -> None:
    """Errors of the framework and refusals too. Nothing is kept by caches, and HTTPS is not promised."""
    headers = _headers(client, method, path)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == DATA
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in headers


def test_refusals_and_unforeseen_errors_have_them(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are answered by middleware, outside of the routes."""
    refused = _headers(client, "PUT", "/v1/label-sets/x", headers={"Origin": "https://evil.example"})
    assert refused["content-security-policy"] == DATA

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(Registry, "names", fail)
    with capture_logs():
        response = client.get("/v1/models")
    assert response.status_code == 500
    assert response.headers["content-security-policy"] == DATA


def test_what_has_an_etag_may_be_kept_but_is_asked_for_again(client: TestClient) -> None:
    """So that If-None-Match goes on working in browsers; shared caches keep nothing."""
    headers = _headers(client, "PUT", "/v1/label-sets/headers", json={"labels": ["a"]})
    assert headers["cache-control"] == "private, no-cache"
    assert _headers(client, "GET", "/v1/label-sets/headers")["cache-control"] == "private, no-cache"
    known = client.get("/v1/label-sets/headers", headers={"If-None-Match": headers["etag"]})
    assert (known.status_code, known.headers["cache-control"]) == (304, "private, no-cache")


def test_https_is_promised_under_tls_only(client: TestClient) -> None:
    """The scheme is that of the connection, or what a trusted proxy says."""
    secure = client.get("https://testserver/v1/models")
    assert secure.headers["Strict-Transport-Security"] == "max-age=31536000"
