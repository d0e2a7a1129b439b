"""Answers, examples, recordings and cards that come late: the page shows what was chosen last."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.steps import HARP, NAMES, choose, classify, start_recording

Hold = Callable[[str], list[Route]]
LEAF = "leaf-with-a-chirp-silent.mp4"
WATCH = """() => {
    // A task begins when all that follows at once from what was read is done, and is drawn.
    window.done = [];
    const note = (address) => setTimeout(() => window.done.push(new URL(address).pathname));
    for (const way of ["text", "blob"]) {
        const read = Response.prototype[way];
        Response.prototype[way] = async function () {
            const content = await read.call(this);
            note(this.url);
            return content;
        };
    }
    const open = XMLHttpRequest.prototype.open;
    XMLHttpRequest.prototype.open = function (...request) {
        this.addEventListener("load", () => note(this.responseURL));
        open.apply(this, request);
    };
    window.revoked = [];
    const revoke = URL.revokeObjectURL;
    URL.revokeObjectURL = (url) => {
        window.revoked.push(url);
        revoke(url);
    };
}"""


@pytest.fixture
def held(page: Page) -> Hold:
    """Hold back what is asked for at an address from now on; the requests, as they come."""

    def hold(address: str) -> list[Route]:
        routes: list[Route] = []
        page.route(address, lambda route: routes.append(route))
        return routes

    page.evaluate(WATCH)
    return hold


def wait_until_done(page: Page, path: str) -> None:
    """Wait until the page has done all that it does with an answer."""
    page.wait_for_function("path => window.done.includes(path)", arg=path)


def start_classifying(page: Page) -> None:
    """Send the request, which is held back."""
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("progressbar")).to_be_visible()


def url_of_clip(page: Page) -> str:
    """Where the player has the clip from."""
    return str(page.locator("video:not(.recorder video)").get_attribute("src"))


def test_a_recording_ends_the_request_of_the_clip_before(page: Page, held: Hold) -> None:
    """Although that was sent after the recording had begun; the recording is classified then."""
    choose(page, HARP, *NAMES)
    start_recording(page)
    held("**/v1/classify")
    start_classifying(page)
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/classify")):
        page.get_by_role("button", name="Stop and use it").click()
    expect(page.locator(".drop-name")).to_have_text("recording.webm")
    expect(page.get_by_role("status").filter(has_text="Cancelled")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_count(0)
    page.unroute_all()
    assert classify(page)["n_labels"] == len(NAMES)


@pytest.mark.usefixtures("held")
def test_a_recording_frees_the_clip_that_was_chosen_meanwhile(page: Page) -> None:
    """Each clip is freed once, when another takes its place, and the recording is not."""
    choose(page, HARP)
    before = url_of_clip(page)
    start_recording(page)
    choose(page, HARP.with_name(LEAF))
    meanwhile = url_of_clip(page)
    page.get_by_role("button", name="Stop and use it").click()
    expect(page.locator(".drop-name")).to_have_text("recording.webm")
    assert page.evaluate("window.revoked") == [before, meanwhile]


@pytest.mark.parametrize("is_answered", [True, False])
def test_an_answer_that_can_no_longer_be_cancelled_is_dropped(
    page: Page, held: Hold, is_answered: bool
) -> None:
    """So is an error; the request of the new clip goes on, and is answered."""
    page.evaluate("() => { XMLHttpRequest.prototype.abort = () => {}; }")
    routes = held("**/v1/classify")
    choose(page, HARP, *NAMES)
    start_classifying(page)
    choose(page, HARP.with_name(LEAF))
    expect(page.get_by_role("progressbar")).to_have_count(0)
    start_classifying(page)
    if is_answered:
        routes[0].continue_()
    else:
        routes[0].fulfill(status=502)
    wait_until_done(page, "/v1/classify")
    assert page.get_by_role("heading", name="Answer").count() == 0
    assert page.get_by_role("alert").count() == 0
    assert page.get_by_role("progressbar").count() == 1
    routes[1].continue_()
    expect(page.get_by_text("Only the picture was used")).to_be_visible()


def test_an_example_ends_the_request_that_was_sent_while_it_was_loaded(page: Page, held: Hold) -> None:
    """As any other clip that takes the place of one."""
    choose(page, HARP, *NAMES)
    examples = held(f"**/{LEAF}")
    held("**/v1/classify")
    page.get_by_role("button", name="a leaf without sound").click()
    start_classifying(page)
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/classify")):
        examples[0].continue_()
    expect(page.locator(".drop-name")).to_have_text(LEAF)
    expect(page.get_by_role("progressbar")).to_have_count(0)


@pytest.mark.parametrize("status", [200, 502])
def test_an_example_that_comes_after_another_clip_was_chosen_is_dropped(
    page: Page, held: Hold, status: int
) -> None:
    """So is its error."""
    routes = held(f"**/{LEAF}")
    page.get_by_role("button", name="a leaf without sound").click()
    choose(page, HARP, *NAMES)
    routes[0].fulfill(status=status, content_type="video/mp4", body="")
    wait_until_done(page, f"/page/examples/{LEAF}")
    assert page.locator(".drop-name").inner_text() == HARP.name
    assert page.locator(".chip span").all_inner_texts() == NAMES
    assert page.get_by_role("alert").count() == 0


@pytest.mark.parametrize("status", [200, 500])
def test_the_card_of_a_bundle_that_is_no_longer_shown_is_dropped(page: Page, held: Hold, status: int) -> None:
    """So is its error."""
    page.get_by_role("link", name="About the bundle").click()
    bundle, card = page.get_by_role("combobox", name="Bundle"), page.locator(".card")
    expect(card).to_contain_text("Model card: the demo bundle")
    routes = held("**/v1/models/toy")
    bundle.select_option("toy")
    expect(card).to_have_count(0)
    bundle.select_option("demo")
    expect(card).to_contain_text("Model card: the demo bundle")
    routes[0].fulfill(status=status, json={"card": "It comes late."})
    wait_until_done(page, "/v1/models/toy")
    assert "Model card: the demo bundle" in card.inner_text()
    assert page.get_by_role("alert").count() == 0


@pytest.mark.usefixtures("held")
def test_a_list_of_label_sets_that_a_later_one_has_overtaken_is_dropped(page: Page) -> None:
    """Both views ask for it when they open; of the two only the first has a set, and comes last."""
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_visible()
    routes: list[Route] = []

    def answer_the_second(route: Route) -> None:
        routes.append(route)
        if len(routes) == 2:
            route.fulfill(json={"label_sets": [], "next_cursor": None})

    def wait_for(n_lists: int) -> None:
        lists = "window.done.filter((path) => path === '/v1/label-sets')"
        page.wait_for_function(f"n => {lists}.length === n", arg=n_lists)

    page.route("**/v1/label-sets?*", answer_the_second)
    page.evaluate("window.done = []")
    page.get_by_role("link", name="Label sets").click()
    page.get_by_role("link", name="Classify a clip").click()
    wait_for(1)
    late = {"name": "late", "n_labels": 1, "etag": "1"}
    routes[0].fulfill(json={"label_sets": [late], "next_cursor": None})
    wait_for(2)
    assert page.get_by_label("Choose from", exact=True).count() == 0
