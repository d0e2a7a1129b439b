"""axe finds nothing, on a phone and on a desktop, in both themes, in every view; and nothing is cut off."""

from __future__ import annotations

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.steps import classify, take_example

WIDTHS_PX = (360, 1440)
LONG_NAME = "seen" + 96 * "n"
"""As long as names of label sets may be."""


def check(page: Page) -> None:
    """Look for violations at both widths in both themes."""
    for width in WIDTHS_PX:
        check_width(page, width)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
            found = Axe().run(page)
            assert found.violations_count == 0, (width, scheme, found.generate_report())


def check_width(page: Page, width: int) -> None:
    """The page must be no wider than its window."""
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def with_a_set(service: str) -> None:
    """There is a label set."""
    httpx2.put(f"{service}v1/label-sets/{LONG_NAME}", json={"labels": ["a", "b"]}).raise_for_status()


@pytest.mark.usefixtures("with_a_set")
def test_what_is_chosen_and_a_fault(page: Page) -> None:
    """A clip, names, a question about them, and what went wrong."""
    page.route("**/v1/classify", lambda route: route.abort())
    take_example(page, "a bead with a harp")
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_text("connection_lost")).to_be_visible()
    page.get_by_label("Names to choose from").fill("a, b")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Is this one name or 2?")).to_be_visible()
    check(page)
    page.get_by_label("Choose from", exact=True).select_option(LONG_NAME)
    check_width(page, WIDTHS_PX[0])


def test_an_answer(page: Page) -> None:
    """With bars, timeline, JSON and the request to copy."""
    take_example(page, "a bead with a harp")
    page.get_by_label("Timeline in steps of").select_option("2")
    classify(page)
    page.get_by_text("The whole answer as JSON").click()
    page.get_by_text("The same request from your own program").click()
    check(page)


@pytest.mark.usefixtures("with_a_set")
def test_label_sets_and_the_bundle(page: Page) -> None:
    """An open set that is about to be deleted; the card of the bundle, whose tables scroll."""
    page.get_by_role("link", name="Label sets").click()
    page.get_by_role("button", name=LONG_NAME).click()
    page.get_by_role("button", name="Delete this set…").click()
    check(page)
    page.get_by_role("link", name="About the bundle").click()
    expect(page.get_by_role("heading", name="Model card: the demo bundle")).to_be_visible()
    page.get_by_text("measured figures").click()
    check(page)
    page.set_viewport_size({"width": 360, "height": 900})
    breaks = "cells => cells.map((cell) => getComputedStyle(cell).overflowWrap)"
    assert set(page.locator(".card td").evaluate_all(breaks)) == {"normal"}


def test_a_change_of_view_moves_the_focus_to_its_title(page: Page) -> None:
    """So that a screen reader says where it is."""
    page.get_by_role("link", name="Label sets").click()
    expect(page.get_by_role("heading", level=1, name="Label sets")).to_be_focused()
