"""/docs without a network: the document is shown, requests can be tried, and nothing foreign is asked."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect


@pytest.fixture
def docs(page: Page) -> Page:
    """The documentation page."""
    page.goto("docs")
    return page


def test_every_address_is_shown(docs: Page, service: str) -> None:
    """All that the document has, with its errors, headers and examples."""
    expect(docs.locator(".opblock").first).to_be_visible()
    document = docs.request.get(f"{service}openapi.json").json()
    assert docs.locator(".opblock").count() == sum(len(one) for one in document["paths"].values())
    docs.locator(".opblock", has_text="/v1/classify").first.click()
    responses = docs.locator(".responses-table").first
    expect(responses).to_contain_text("not_media")
    expect(responses).to_contain_text("Server-Timing")
    expect(responses).to_contain_text("Retry-After")


def test_a_request_can_be_tried(docs: Page) -> None:
    """The answer is that of the service."""
    block = docs.locator(".opblock", has_text="/v1/info")
    block.click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table")).to_contain_text('"default_bundle": "demo"')


def test_it_is_dark_where_that_is_wished(docs: Page) -> None:
    """By the system's setting, as the page is."""
    docs.emulate_media(color_scheme="dark")
    expect(docs.locator("html.dark-mode")).to_have_count(1)
    docs.emulate_media(color_scheme="light")
    expect(docs.locator("html.dark-mode")).to_have_count(0)
