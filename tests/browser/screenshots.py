"""Takes the pictures of the page that the documents show.

    python -m tests.browser.screenshots [--out docs/screenshots]

It uses the examples of the page and nothing else; service/page/examples/CREDITS.md says whose they are.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.chromium import CHROMIUM, chromium, serving

ROOT = Path(__file__).resolve().parents[2]
_BUNDLES = [ROOT / "weights" / name for name in ("everyday", "demo")]
_DESKTOP, _PHONE = (1280, 860), (360, 740)


def main() -> None:
    """Take all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots")
    out: Path = parser.parse_args().out
    if CHROMIUM is None:
        parser.exit(2, "No Chromium is installed; on Debian: apt-get install chromium\n")
    out.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        serving(Path(data), *_BUNDLES) as address,
        chromium() as browser,
    ):
        answered(_open(browser, address, "light", _DESKTOP), out / "page.png")
        answered(_open(browser, address, "dark", _PHONE), out / "page-phone.png")
        docs(_open(browser, f"{address}docs", "light", _DESKTOP), out / "docs.png")
    sys.stdout.write(f"{out}\n")


def answered(page: Page, file: Path) -> None:
    """The page with the answer for an example with two scenes."""
    page.get_by_role("button", name="a cat, then a fire engine").click()
    page.locator(".drop-name").get_by_text(".mp4").wait_for()
    page.get_by_role("button", name="Classify", exact=True).click()
    page.locator(".segments button").nth(1).click()
    page.locator(".segments button[aria-current]").get_by_text("fire engine siren").wait_for()
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("status").filter(has_text="Done.").wait_for()
    _save(page.screenshot(full_page=True, animations="disabled"), file)


def docs(page: Page, file: Path) -> None:
    """The documentation of the HTTP interface."""
    page.locator(".opblock").first.wait_for()
    _save(page.screenshot(animations="disabled"), file)


def _save(png: bytes, file: Path) -> None:
    """With 256 colours, which nobody misses here: a third of the bytes."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        file, optimize=True
    )


def _open(browser: Browser, address: str, scheme: str, size: tuple[int, int]) -> Page:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(address)
    return page


if __name__ == "__main__":
    main()
