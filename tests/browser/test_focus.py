"""The focus stays on the page when what has it vanishes, and what went wrong comes into view."""

from __future__ import annotations

import wave
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.steps import HARP, NAMES, choose, press


def test_names_leave_the_focus_among_them(page: Page) -> None:
    """On the next chip, or where the next name is typed."""
    field = page.get_by_label("Names to choose from")
    for answer in ("Split into 3 names", "Keep as one name"):
        field.fill("a, b, c")
        field.press("Enter")
        press(page.get_by_role("button", name=answer))
        expect(field).to_be_focused()
    press(page.get_by_role("button", name="Remove b", exact=True))
    expect(page.get_by_role("button", name="Remove c", exact=True)).to_be_focused()
    press(page.get_by_role("button", name="Remove a, b, c"))
    expect(page.get_by_role("button", name="Remove c", exact=True)).to_be_focused()
    press(page.get_by_role("button", name="Remove all 2"))
    expect(field).to_be_focused()


def test_a_request_leaves_the_focus_on_its_button(page: Page) -> None:
    """After it was cancelled, and where it was tried again."""
    page.route("**/v1/classify", lambda _: None)
    choose(page, HARP, *NAMES)
    button = page.get_by_role("button", name="Classify", exact=True)
    button.click()
    press(page.get_by_role("button", name="Cancel"))
    expect(button).to_be_focused()
    page.unroute_all()
    page.context.set_offline(True)
    button.click()
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    page.context.set_offline(False)
    press(again)
    expect(page.get_by_role("heading", name="Answer")).to_be_visible()
    expect(button).to_be_focused()


def test_a_recording_leaves_the_focus_on_its_next_step(page: Page) -> None:
    """From the first button to the last and back."""
    for name in ("Record a clip", "Start recording", "Stop and use it"):
        button = page.get_by_role("button", name=name)
        expect(button).to_be_visible()
        if name != "Record a clip":
            expect(button).to_be_focused()
        press(button)
    expect(page.get_by_role("button", name="Record a clip")).to_be_focused()


def test_a_focus_that_was_led_away_is_not_brought_back(page: Page) -> None:
    """A click beside everything takes it from the button that vanishes then."""
    page.route("**/v1/classify", lambda _: None)
    choose(page, HARP, *NAMES)
    page.get_by_role("button", name="Classify", exact=True).click()
    page.get_by_role("button", name="Cancel").focus()
    page.get_by_role("heading", name="1. A clip").click()
    choose(page, HARP.with_name("leaf-with-a-chirp-silent.mp4"))
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    assert page.evaluate("document.activeElement === document.body")


def test_what_came_of_a_request_comes_into_view(page: Page, tmp_path: Path) -> None:
    """The button is far below on a laptop's screen."""
    page.set_viewport_size({"width": 1366, "height": 657})
    page.route("**/v1/classify", lambda route: route.abort())
    sound = tmp_path / "tone.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\x00\x10\x00\xf0" * 8000)
    choose(page, sound, *NAMES)
    button = page.get_by_role("button", name="Classify", exact=True)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    button.click()
    expect(page.get_by_role("alert")).to_be_in_viewport(ratio=1)
    page.unroute_all()
    page.set_viewport_size({"width": 1366, "height": 300})
    button.click()
    expect(page.get_by_role("heading", name="Answer")).to_be_in_viewport()
