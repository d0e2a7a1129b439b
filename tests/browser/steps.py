"""What people do on the page, as tests of it do: take a clip, give names, ask."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import EXAMPLES

HARP = EXAMPLES / "bead-with-a-harp.mp4"
NAMES = ["bead with a harp", "bead with a bell", "star with an ember"]


def choose(page: Page, clip: Path, *names: str) -> None:
    """Take a clip and names."""
    page.locator("input[type=file]").set_input_files(clip)
    for name in names:
        page.get_by_label("Names to choose from").fill(name)
        page.keyboard.press("Enter")


def press(button: Locator) -> None:
    """By the keyboard, which needs to know where it is then."""
    button.focus()
    button.press("Enter")


def take_example(page: Page, title: str) -> None:
    """Take one of the page's clips, and wait until it is there."""
    page.get_by_role("button", name=title).click()
    expect(page.locator(".drop-name")).to_contain_text(".mp4")


def paste(page: Page, text: str) -> None:
    """Paste a text into the field of names."""
    page.get_by_label("Names to choose from").evaluate(
        """(field, text) => {
            const data = new DataTransfer();
            data.setData("text", text);
            const options = { clipboardData: data, bubbles: true, cancelable: true };
            field.dispatchEvent(new ClipboardEvent("paste", options));
        }""",
        text,
    )


def start_recording(page: Page) -> None:
    """With camera and microphone of the browser, which are made up here; until there is something of it."""
    page.get_by_role("button", name="Record a clip").click()
    page.get_by_role("button", name="Start recording").click()
    expect(page.get_by_role("timer")).to_contain_text(re.compile(r"recording, [1-9]\d* of at most 30"))


def classify(page: Page) -> dict[str, Any]:
    """Press the button and wait; the answer as the page shows it at the end."""
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("heading", name="Answer")).to_be_visible()
    answer: dict[str, Any] = json.loads(page.locator(".answer pre").text_content() or "")
    return answer


def bars(page: Page, title: str) -> list[tuple[str, str]]:
    """Names and shares of one ranked list."""
    rows = page.locator(".bars", has=page.get_by_role("heading", name=title)).locator("li")
    names, shares = rows.locator(".bar-name"), rows.locator(".bar-share")
    plain = [name.removesuffix(" trained") for name in names.all_inner_texts()]
    return list(zip(plain, shares.all_inner_texts(), strict=True))
