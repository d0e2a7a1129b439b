"""The files of the pages, as they are sent; tests/browser looks at them in a browser."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import service

PAGE = Path(service.__file__).parent / "page"
VENDOR = PAGE / "vendor"
FILES = sorted(path for path in PAGE.rglob("*") if path.is_file())
LOADS = re.compile(r"""(?:src|href|url)\s*[=(]\s*["']?(https?:)?//""")


@pytest.mark.parametrize("address", ["/", "/docs", "/page/app.js", "/page/vendor/preact/preact.js"])
def test_pages_are_sent_under_a_strict_policy(client: TestClient, address: str) -> None:
    """No inline script or style, nothing from another host; the browser may keep a file, and asks again."""
    answer = client.get(address)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "private, no-cache"
    again = client.get(address, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == policy
    head = client.head(address)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(
    "address",
    [
        "/page/nothing.js",
        "/page/",
        "/page/..%2fapp.py",
        "/page/../errors.py",
        "/page//etc/passwd",
        "/page/%00",
        "/redoc",
    ],
)
def test_nothing_else_is_sent(client: TestClient, address: str) -> None:
    """No folder, and no file beside it; the text names a page that is there."""
    answer = client.get(address)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "/docs" in answer.json()["detail"]
    assert client.get("/docs").status_code == 200


def test_other_methods_are_refused(client: TestClient) -> None:
    """The text names a page that is there."""
    for address in ("/", "/docs", "/page/app.js"):
        answer = client.post(address)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert "/docs" in answer.json()["detail"]


def test_a_video_is_sent_in_parts(client: TestClient) -> None:
    """Players ask for the part that they need."""
    whole = client.get("/page/examples/bead-with-a-harp.mp4")
    part = client.get("/page/examples/bead-with-a-harp.mp4", headers={"Range": "bytes=10-19"})
    assert (whole.headers["content-type"], part.status_code) == ("video/mp4", 206)
    assert part.content == whole.content[10:20]


def test_libraries_are_the_ones_that_are_named() -> None:
    """Every file is in the table with its hash, or is a licence."""
    table = (VENDOR / "README.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|", table, re.MULTILINE))
    found = {
        str(path.relative_to(VENDOR)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FILES
        if path.is_relative_to(VENDOR) and path.suffix in (".js", ".css")
    }
    assert found == named
    for folder in {path.split("/")[0] for path in named}:
        assert (VENDOR / folder / "LICENSE").is_file()


def test_pages_load_nothing_from_elsewhere() -> None:
    """No file of ours names another host to load from."""
    for path in FILES:
        if path.suffix in (".html", ".js", ".css") and not path.is_relative_to(VENDOR):
            assert not LOADS.search(path.read_text(encoding="utf-8")), path.name


def test_examples_are_there_with_credits() -> None:
    """What the list names, and nothing that it does not; little enough to be part of the package."""
    folder = PAGE / "examples"
    listed = {one["file"] for one in json.loads((folder / "examples.json").read_text(encoding="utf-8"))}
    clips = {path.name for path in folder.glob("*.mp4")}
    credit = (folder / "CREDITS.md").read_text(encoding="utf-8")
    assert listed == clips
    assert all(f"`{name}`" in credit for name in clips)
    assert sum((folder / name).stat().st_size for name in clips) < 300_000
