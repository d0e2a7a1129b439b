"""The main job on the page: a clip and names in, an answer out, in a real browser with real uploads."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import EXAMPLES, ROOT
from tests.browser.steps import (
    HARP,
    NAMES,
    bars,
    choose,
    classify,
    paste,
    start_recording,
    take_example,
)

MAX_FIRST_PAINT_BYTES = 110_000


def test_an_example_is_answered_after_two_clicks(page: Page) -> None:
    """The picture alone can't tell two beads apart; the sound can, and the page says so."""
    take_example(page, "a bead with a harp")
    answer = classify(page)
    assert answer["predictions"][0]["label"] == "bead with a harp"
    assert page.locator(".best").inner_text().startswith("bead with a harp")
    said = page.locator(".decided").inner_text()
    assert (
        "The sound decides this; the picture alone can't tell “bead with a harp” from “bead with a bell”."
        in said
    )
    assert "It is 0.9\u00a0% likely that none of these names fits." in said
    both, picture = bars(page, "Picture and sound together"), bars(page, "Picture alone")
    assert [name for name, _ in both] == [one["label"] for one in answer["predictions"]]
    assert {name for name, _ in picture[:2]} == {"bead with a harp", "bead with a bell"}
    assert bars(page, "Sound alone")[0][0] == "bead with a harp"


def test_a_clip_of_ones_own_and_names_typed_and_pasted(page: Page) -> None:
    """A pasted list is split at its lines, a name that is there already is told, a chip can be taken out."""
    choose(page, HARP, "bead with a harp")
    paste(page, "bead with a bell\n\n  Bead  with a HARP \nred, green\n")
    expect(page.get_by_text("1 name already in the list")).to_be_visible()
    page.get_by_role("button", name="Remove red, green").click()
    assert page.locator(".chip span").all_inner_texts() == ["bead with a harp", "bead with a bell"]
    assert classify(page)["n_labels"] == 2


def test_a_list_with_commas_is_asked_about(page: Page) -> None:
    """As the service does: names may contain commas."""
    field = page.get_by_label("Names to choose from")
    field.fill("salt, pepper, and vinegar")
    field.press("Enter")
    page.get_by_role("button", name="Keep as one name").click()
    field.fill("dog; cat")
    field.press("Enter")
    page.get_by_role("button", name="Split into 2 names").click()
    assert page.locator(".chip span").all_inner_texts() == ["salt, pepper, and vinegar", "dog", "cat"]


def test_a_list_that_is_edited_is_asked_about_again(page: Page) -> None:
    """The question was about what stood there before, and would lose what was typed since."""
    field, question = page.get_by_label("Names to choose from"), page.get_by_text("Is this one name or")
    field.fill("a, b")
    field.press("Enter")
    expect(question).to_be_visible()
    page.keyboard.type(", c")
    expect(question).to_have_count(0)
    field.press("Enter")
    page.get_by_role("button", name="Split into 3 names").click()
    assert page.locator(".chip span").all_inner_texts() == ["a", "b", "c"]


def test_an_answer_stays_that_of_its_question(page: Page) -> None:
    """It says what was chosen otherwise since; notice and request to copy are those of the answer."""
    changes = page.get_by_text("This answer is for the")
    notice = page.locator("p.note", has_text="This bundle knows a made-up world")
    code = page.locator(".snippets pre")
    choose(page, HARP, *NAMES)
    page.get_by_text("The same request from your own program").click()
    classify(page)
    asked = code.inner_text()
    expect(changes).to_have_count(0)
    page.get_by_role("button", name=f"Remove {NAMES[0]}").click()
    expect(changes).to_have_text("This answer is for the names before; classify again.")
    page.get_by_role("combobox", name="Bundle").select_option("toy")
    expect(changes).to_have_text("This answer is for the names and bundle before; classify again.")
    expect(notice).to_be_visible()
    assert code.inner_text() == asked
    assert classify(page)["bundle"] == "toy"
    expect(changes).to_have_count(0)
    expect(notice).to_have_count(0)
    assert code.inner_text() != asked


def test_names_written_from_right_to_left_keep_their_order(page: Page, service: str) -> None:
    """Each is isolated from what stands around it, wherever it is shown, and so is what is typed."""
    name = "כלב (1)!"
    sent = httpx2.post(
        f"{service}v1/classify",
        files={"file": HARP.read_bytes()},
        data={"labels": json.dumps([name, "bead with a harp"]), "segment_s": "2"},
    ).json()
    for ranked in (sent, *sent["segments"]):
        ranked["predictions"].sort(key=lambda one: one["label"] != name)
        ranked["unknown"] = 0.75
    page.route("**/v1/classify", lambda route: route.fulfill(json=sent))
    choose(page, HARP, name)
    field = page.get_by_label("Names to choose from")
    field.fill(name)
    assert field.evaluate("field => getComputedStyle(field).direction") == "rtl"
    field.fill("")
    classify(page)
    for place in (".chip", ".best", ".bars.both li", ".segment-name", ".inputs > [role=status]"):
        expect(page.locator(f"{place} bdi").filter(has_text=name).first).to_be_visible()
    expect(page.locator(".decided bdi").first).to_have_text("bead with a harp")
    assert f"\u2068{name}\u2069" in (page.locator(".piece").first.get_attribute("title") or "")


def drop(page: Page, place: Locator, *files: Path) -> None:
    """Let files fall from outside, as the browser itself has them."""
    box = place.bounding_box() or {"x": 0, "y": 0}
    events = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        events.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": box["x"] + 20,
                "y": box["y"] + 20,
                "data": {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1},
            },
        )


def test_a_clip_may_be_dropped_anywhere(page: Page) -> None:
    """A browser would open it, and all that was typed would be lost; a folder is told from a clip."""
    name = page.locator(".drop-name")
    drop(page, page.get_by_role("heading", name="2. Names"), HARP)
    expect(name).to_have_text(HARP.name)
    drop(page, name, EXAMPLES)
    expect(page.get_by_text("That is a folder")).to_be_visible()
    expect(name).to_have_text(HARP.name)
    drop(page, name, EXAMPLES / "leaf-with-a-chirp-silent.mp4", HARP)
    expect(page.get_by_text("The page takes one clip at a time")).to_be_visible()
    expect(name).to_have_text("leaf-with-a-chirp-silent.mp4")


def test_a_name_that_is_typed_but_not_entered_is_asked_about_too(page: Page) -> None:
    """It becomes one of the names at the click, from which the focus and the mouse are not led away."""
    choose(page, HARP, "bead with a harp")
    page.get_by_label("Names to choose from").fill(" bead with a bell ")
    assert classify(page)["n_labels"] == 2
    assert page.locator(".chip span").all_inner_texts() == ["bead with a harp", "bead with a bell"]
    expect(page.get_by_label("Names to choose from")).to_have_value("")
    assert classify(page)["n_labels"] == 2


def test_a_typed_list_is_asked_about_before_it_is_sent(page: Page) -> None:
    """Nothing is sent until it is said whether that is one name."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    choose(page, HARP)
    page.get_by_label("Names to choose from").fill("bead with a harp, bead with a bell")
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Say first whether")).to_be_visible()
    assert "POST" not in sent
    page.get_by_role("button", name="Split into 2 names").click()
    assert classify(page)["n_labels"] == 2


def test_the_main_job_needs_no_mouse(page: Page) -> None:
    """Tab, letters and Enter alone, up to a moment of the clip; the focus can be seen at each step."""

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                """() => {
                    const it = document.activeElement;
                    const name = it.getAttribute("aria-label") || it.labels?.[0]?.innerText || it.innerText;
                    return [name, getComputedStyle(it).outlineStyle, it.type || it.tagName];
                }"""
            )
            # Of the file field the area to drop on shows the focus; of the player one of its buttons.
            assert focused[1] != "none" or focused[2] in ("file", "VIDEO"), focused
            if focused[0].replace("\n", " ").startswith(name):
                return
        raise AssertionError(name)

    expect(page.get_by_role("button", name="a bead with a harp")).to_be_visible()
    tab_to("Drop a clip here")
    tab_to("a bead with a harp")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(4)
    tab_to("Names to choose from")
    page.keyboard.type("swirl with a siren")
    page.keyboard.press("Enter")
    tab_to("Timeline in steps of")
    page.keyboard.type("2")
    tab_to("Classify")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Done. bead with a harp")).to_be_visible()
    tab_to("0:02")
    page.keyboard.press("Enter")
    expect(page.locator(".segments button[aria-current]")).to_contain_text("0:02")
    assert page.locator("video").evaluate("player => player.currentTime") == 2.0


WORDS: list[tuple[list[float] | None, list[float] | None, str]] = [
    ([0.9, 0.1], [0.8, 0.2], "Picture and sound agree."),
    ([0.51, 0.49], [0.8, 0.2], "The sound decides this; the picture alone can't tell “a” from “b”."),
    ([0.9, 0.1], [0.5, 0.5], "The picture decides this; the sound alone can't tell “a” from “b”."),
    ([0.55, 0.45], [0.5, 0.5], "Picture and sound agree, but neither is sure."),
    ([0.1, 0.9], [0.8, 0.2], "The sound decides this; the picture alone says “b”."),
    ([0.8, 0.2], [0.1, 0.9], "The picture decides this; the sound alone says “b”."),
    ([0.3, 0.7], [0.2, 0.8], "Both together decide this; the picture alone says “b”, the sound alone “b”."),
    (None, [0.8, 0.2], "Only the sound was used (picture: no stream)."),
    ([0.8, 0.2], None, "Only the picture was used (sound: no stream)."),
]
"""Scores of the first two names by the picture and by the sound, and what is said of them."""


def test_what_decides_is_said_in_words(page: Page) -> None:
    """Every way in which two tracks can agree or not."""
    said = page.evaluate(
        """async (cases) => {
            const { decidedBy } = await import("/page/answer.js");
            const { html, render } = await import("/page/view.js");
            const textOf = (drawn) => {
                const element = document.createElement("p");
                render(html`${drawn}`, element);
                return element.textContent;
            };
            const of = (scores, i) => scores && { score: scores[i] };
            const use = (scores) => ({ used: Boolean(scores), detail: scores ? "fine" : "no stream" });
            return cases.map(([visual, audio]) => {
                const one = (label, i) => ({ label, visual: of(visual, i), audio: of(audio, i) });
                const tracks = { visual: use(visual), audio: use(audio) };
                return textOf(decidedBy({ predictions: ["a", "b"].map(one), tracks }));
            });
        }""",
        [[visual, audio] for visual, audio, _ in WORDS],
    )
    assert said == [says for *_, says in WORDS]


def test_a_clip_that_no_name_fits_is_said_to_be_unknown(page: Page) -> None:
    """`unknown` as people would say it, in the first line and in the timeline."""
    page.get_by_role("combobox", name="Bundle").select_option("toy")
    choose(page, HARP, "blue with a high tone", "blue")
    answer = classify(page)
    assert answer["bundle"] == "toy"
    assert answer["unknown"] >= 0.5
    assert page.locator(".best").inner_text().startswith("Perhaps none of these; the nearest is")


def test_a_clip_without_sound_is_ranked_by_its_picture(page: Page) -> None:
    """There is one list of bars then, and the reason."""
    take_example(page, "a leaf without sound")
    classify(page)
    assert "Only the picture was used" in page.locator(".decided").inner_text()
    expect(page.get_by_role("heading", name="Sound alone")).to_have_count(0)


def test_a_still_picture_is_shown_and_ranked(page: Page, tmp_path: Path) -> None:
    """As a picture, without player and timeline."""
    still = tmp_path / "still.png"
    Image.new("RGB", (320, 240), (230, 20, 20)).save(still)
    page.get_by_role("combobox", name="Bundle").select_option("toy")
    choose(page, still, "red", "green")
    assert classify(page)["predictions"][0]["label"] == "red"
    expect(page.get_by_role("img", name="The clip still.png")).to_be_visible()
    expect(page.locator(".timeline, video, audio")).to_have_count(0)


def test_a_recording_is_classified(page: Page) -> None:
    """As it comes from the browser."""
    start_recording(page)
    page.get_by_role("button", name="Stop and use it").click()
    expect(page.locator(".drop-name")).to_have_text("recording.webm")
    choose_names = page.get_by_label("Names to choose from")
    choose_names.fill("moon with a whistle")
    choose_names.press("Enter")
    answer = classify(page)
    assert answer["tracks"]["visual"]["used"]
    assert answer["tracks"]["audio"]["used"]


def test_the_first_paint_is_light(page: Page) -> None:
    """All that the page loads from its files before anyone does anything, headers included."""
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_visible()
    sizes: dict[str, int] = page.evaluate(
        """() => {
            const of = (kind) => performance.getEntriesByType(kind);
            const all = [...of("navigation"), ...of("resource")];
            return Object.fromEntries(all.map((one) => [one.name, one.transferSize]));
        }"""
    )
    files = {name: size for name, size in sizes.items() if "/v1/" not in name}
    assert all(files.values()), files
    assert sum(files.values()) < MAX_FIRST_PAINT_BYTES, files


def test_every_file_of_the_page_is_used(page: Page) -> None:
    """None is left behind when another takes its place."""
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_visible()
    addresses = "performance.getEntriesByType('resource').map((one) => new URL(one.name).pathname)"
    loaded = set(page.evaluate(addresses))
    page.goto("docs")
    expect(page.get_by_text("/v1/classify").first).to_be_visible()
    loaded |= set(page.evaluate(addresses))
    folder = ROOT / "service" / "page"
    files = [path for path in folder.rglob("*") if path.suffix in (".js", ".css")]
    assert {f"/page/{path.relative_to(folder)}" for path in files} <= loaded


def test_moving_parts_rest_where_that_is_wished(page: Page) -> None:
    """prefers-reduced-motion."""
    take_example(page, "a bead with a harp")
    classify(page)
    moves = "getComputedStyle(document.querySelector('.bar span')).transitionProperty"
    assert page.evaluate(moves) == "width"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moves) == "none"
