"""The timeline of an answer: in step with the player, and saved as the service writes it."""

from __future__ import annotations

import csv
import json
from typing import Any
from unicodedata import normalize

import httpx2
from playwright.sync_api import Page, expect

from service.api.timeline import TIMELINES, as_cell
from service.client import Answer
from tests.browser.steps import HARP, NAMES, choose, classify, take_example


def test_the_timeline_and_the_player_are_in_step(page: Page) -> None:
    """A click moves the player; a player that plays moves the mark."""
    take_example(page, "a bead with a harp")
    page.get_by_label("Timeline in steps of").select_option("2")
    segments = classify(page)["segments"]
    rows, current = page.locator(".segments button"), page.locator(".segments button[aria-current]")
    expect(rows).to_have_count(len(segments))
    expect(current).to_contain_text("0:00")
    rows.nth(1).click()
    assert page.locator("video").evaluate("player => player.currentTime") == segments[1]["start_s"]
    expect(current).to_contain_text("0:02")
    page.locator("video").evaluate("player => { player.currentTime = 1.6; return player.play(); }")
    expect(current).to_contain_text("0:00")
    expect(current).to_contain_text("0:02")
    page.locator(".piece").first.click()
    expect(current).to_contain_text("0:00")


def test_the_timeline_is_saved_as_the_service_writes_it(page: Page, service: str) -> None:
    """With halves of percents and of milliseconds, signs of every format, and a segment without anything."""
    sent = httpx2.post(
        f"{service}v1/classify",
        files={"file": HARP.read_bytes()},
        data={"labels": json.dumps(NAMES), "segment_s": "auto"},
    ).json()
    segment: dict[str, Any] = sent["segments"][0]

    def changed(
        start_s: float, end_s: float, unknown: float | None, *named: tuple[str, float]
    ) -> dict[str, Any]:
        best = [segment["predictions"][0] | {"label": label, "score": score} for label, score in named]
        return segment | {"start_s": start_s, "end_s": end_s, "unknown": unknown, "predictions": best}

    sent["bundle_notice"] = "Few --> <b> names & more."
    sent["segments"] = [
        changed(0, 0.0625, None, ('<b> & "x", {y}', 0.125)),
        changed(0.0625, 1.0005, 3.2e-05, ("a, b", 0.135), ("c", 0.1)),
        changed(1.0005, 3599.9996, 0.25),
        changed(3599.9996, 366123.4565, 0.5, ("=1+1", 1)),
    ]
    page.route("**/v1/classify", lambda route: route.fulfill(json=sent))
    choose(page, HARP, *NAMES)
    answer = Answer.read(classify(page))

    def saved(title: str) -> tuple[str, str]:
        with page.expect_download() as download:
            page.get_by_role("button", name=title, exact=True).click()
        return download.value.suggested_filename, download.value.path().read_bytes().decode()

    def rows(table: str) -> list[list[str | float]]:
        # A whole number is written `1` here and `1.0` there.
        return [
            [float(one) if one[:1].isdigit() else one for one in row]
            for row in csv.reader(table.split("\r\n"))
        ]

    stem = "bead-with-a-harp"
    assert saved("SRT") == (f"{stem}.srt", TIMELINES["srt"].write(answer))
    assert saved("WebVTT") == (f"{stem}.vtt", TIMELINES["vtt"].write(answer))
    name, table = saved("CSV")
    assert (name, rows(table)) == (f"{stem}.csv", rows(TIMELINES["csv"].write(answer)))


def test_names_like_formulas_are_saved_as_the_service_writes_them(page: Page) -> None:
    """Every sign that some spreadsheet may read as the first of a formula, and some that none does."""
    signs = [sign for sign in map(chr, range(0x110000)) if normalize("NFKC", sign) in {*"=+-@"}]
    names = [f"{sign}1" for sign in [*signs, *"\u2212a\U0001f431"]]
    saved: list[str] = page.evaluate(
        """async (names) => {
            const { csv } = await import("/page/subtitles.js");
            const segments = names.map((label) => ({ predictions: [{ label }] }));
            return csv({ segments }).split("\\r\\n");
        }""",
        names,
    )
    assert [row[2] for row in csv.reader(saved[1:-1])] == [as_cell(name) for name in names]
