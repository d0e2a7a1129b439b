"""A browser and services, shared by all tests here; a page for each test that nothing foreign may enter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from tests.browser.chromium import CHROMIUM, chromium, serving

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "weights" / "demo"
EXAMPLES = ROOT / "examples"
PATIENCE_MS = 30_000  # a busy machine is no fault of the page
KEY = "the-key-of-these-tests-and-no-other"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The system's Chromium. Not longer than this package: others run event loops of their own."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed; on Debian: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with chromium() as started:
        yield started


@pytest.fixture(scope="package")
def service(browser: Browser, toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service with the bundles demo and toy, which needs no key."""
    assert browser.is_connected()
    with serving(tmp_path_factory.mktemp("data"), DEMO, toy_bundle, AHSE_DECODE_WORKERS="1") as address:
        yield address


@dataclass
class Watch:
    """What a page did that it should not do.

    Attributes:
        hosts: Host and port of every request.
        faults: Errors of its scripts, and what its content security policy refused.
    """

    hosts: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        """Take note of all that happens from now on."""
        page.on("request", self._add)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        # A failed request is told by the page itself; any other error that the browser reports is a fault.
        page.on(
            "console",
            lambda message: (
                self.faults.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )

    def _add(self, request: Request) -> None:
        if urlsplit(request.url).scheme in ("http", "https", "ws", "wss"):
            self.hosts.add(urlsplit(request.url).netloc)


@pytest.fixture
def page(browser: Browser, service: str) -> Iterator[Page]:
    """The service's page, just opened. The test fails if it asks another host or breaks its policy."""
    yield from watched(browser, service)


def watched(browser: Browser, address: str, scheme: str = "light") -> Iterator[Page]:
    """An open page at 1440 px; afterwards it must have stayed within the service and its policy."""
    context = browser.new_context(
        viewport={"width": 1440, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        base_url=address,
    )
    context.set_default_timeout(PATIENCE_MS)
    page, watch = context.new_page(), Watch()
    watch.follow(page)
    page.goto(address)
    yield page
    context.close()
    assert watch.hosts == {urlsplit(address).netloc}
    assert watch.faults == []
