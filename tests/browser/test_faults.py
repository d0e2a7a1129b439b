"""What the page does when something goes wrong: it says the service's own reason and remedy, and goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import serving
from tests.browser.conftest import DEMO, KEY, watched
from tests.browser.steps import HARP, NAMES, choose, classify

LOGIN = "<!doctype html><title>Sign in</title>"
"""What a proxy in between answers with a good status to whom it does not know yet."""


@pytest.fixture(scope="module")
def locked(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a service that needs a key and takes small clips only."""
    folder = tmp_path_factory.mktemp("locked")
    limits = {"AHSE_MAX_UPLOAD_BYTES": "70000", "AHSE_DECODE_WORKERS": "1"}
    assert browser.is_connected()
    with serving(folder, DEMO, AHSE_API_KEY=KEY, **limits) as address:
        yield address


@pytest.fixture
def locked_page(browser: Browser, locked: str) -> Iterator[Page]:
    """The page of that service, just opened."""
    yield from watched(browser, locked)


def test_a_file_that_is_no_clip_is_refused_in_the_services_words(page: Page, tmp_path: Path) -> None:
    """With code and request id, which the log has too; the next clip is answered."""
    text = tmp_path / "notes.mp4"
    text.write_text("no clip at all\n" * 100)
    choose(page, text, *NAMES)
    page.get_by_role("button", name="Classify", exact=True).click()
    fault = page.get_by_role("alert")
    expect(fault).to_contain_text("not_media · request ")
    expect(fault).to_contain_text("Send MP4, MOV, WebM")
    expect(fault.get_by_role("button")).to_have_count(0)
    expect(page.get_by_text("The browser can't play this kind of file")).to_be_visible()
    choose(page, HARP)
    expect(fault).to_have_count(0)
    assert classify(page)["n_labels"] == len(NAMES)


def test_what_is_missing_is_said_before_anything_is_sent(page: Page) -> None:
    """First the clip, then names; no request is made for that."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Choose a clip first.")).to_be_visible()
    choose(page, HARP)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Give at least one name.")).to_be_visible()
    assert "POST" not in sent


def test_a_lost_connection_is_told_and_the_same_request_can_be_sent_again(page: Page) -> None:
    """Clip and names are still there."""
    choose(page, HARP, *NAMES)
    page.context.set_offline(True)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The connection to the service was lost.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Answer")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_clip_that_can_no_longer_be_read_is_told_as_such(page: Page, tmp_path: Path) -> None:
    """Nor do browsers send one that was changed since it was chosen; chosen again it is answered."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(HARP.read_bytes())
    choose(page, clip, *NAMES)
    clip.unlink()
    page.get_by_role("button", name="Classify", exact=True).click()
    fault = page.get_by_role("alert")
    expect(fault).to_contain_text("after you chose it; choose it again")
    expect(fault.get_by_role("button")).to_have_count(0)
    with page.expect_file_chooser() as chooser:
        page.locator(".drop").click()
    clip.write_bytes(HARP.read_bytes())
    # A browser tells of a choice only if it differs from the one before.
    assert page.locator("input[type=file]").evaluate("field => field.files.length") == 0
    chooser.value.set_files(clip)
    assert classify(page)["n_labels"] == len(NAMES)


def test_an_answer_that_is_not_from_the_service_is_told_as_such(page: Page) -> None:
    """A proxy in between may answer with a page of its own."""
    page.route("**/v1/classify", lambda route: route.fulfill(status=502, body="<h1>Bad Gateway</h1>"))
    choose(page, HARP, *NAMES)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Something in between answered with status 502.")


def test_a_page_to_sign_in_is_not_taken_for_an_answer(page: Page) -> None:
    """Of a proxy in between, with a good status; after signing in the same request is answered."""
    page.route("**/v1/classify", lambda route: route.fulfill(body=LOGIN, content_type="text/html"))
    choose(page, HARP, *NAMES)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("perhaps a page that asks you to sign in")
    expect(page.get_by_role("alert")).to_contain_text("unexpected_answer")
    expect(page.get_by_role("progressbar")).to_have_count(0)
    page.unroute("**/v1/classify")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Answer")).to_be_visible()


@pytest.mark.parametrize("body", [LOGIN, ""])
def test_a_page_to_sign_in_when_the_page_opens_is_told_as_such(page: Page, body: str) -> None:
    """Also one without content; in place of the list of examples it is no fault: there are none then."""
    for address in ("**/v1/*", "**/examples.json"):
        page.route(address, lambda route: route.fulfill(body=body, content_type="text/html"))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("perhaps a page that asks you to sign in")
    expect(page.get_by_role("alert")).to_contain_text("unexpected_answer")
    page.unroute("**/v1/*")
    with page.expect_response("**/examples.json"):
        page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (502, "Something in between answered with status 502."),
        (200, "perhaps a page that asks you to sign in"),
    ],
)
def test_an_example_that_is_no_video_is_not_taken(page: Page, status: int, said: str) -> None:
    """The clip before stays, and it is the example that is tried again."""
    choose(page, HARP)
    page.route(
        "**/leaf*.mp4", lambda route: route.fulfill(status=status, body=LOGIN, content_type="text/html")
    )
    page.get_by_role("button", name="a leaf without sound").click()
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.locator(".drop-name")).to_have_text(HARP.name)
    page.unroute_all()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".drop-name")).to_have_text("leaf-with-a-chirp-silent.mp4")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_overloaded_service_says_when_to_come_back(page: Page) -> None:
    """Retry-After."""
    body = '{"code": "overloaded", "detail": "The service has as many clips as it can take.", "status": 429}'
    page.route(
        "**/v1/classify",
        lambda route: route.fulfill(
            status=429, body=body, content_type="application/problem+json", headers={"Retry-After": "5"}
        ),
    )
    choose(page, HARP, *NAMES)
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("It can be tried again in 5 seconds.")


def test_an_upload_shows_its_progress_and_can_be_cancelled(page: Page) -> None:
    """Over a slow connection; afterwards the same request works."""
    choose(page, HARP, *NAMES)
    network = page.context.new_cdp_session(page)

    def slow_down(bytes_per_s: int) -> None:
        network.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s},
        )

    network.send("Network.enable")
    slow_down(20_000)
    page.get_by_role("button", name="Classify", exact=True).click()
    progress = page.get_by_role("progressbar", name=re.compile("Uploading, [1-9]"))
    assert 0 < progress.evaluate("bar => bar.value") < 1
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status").filter(has_text="Cancelled")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    slow_down(-1)
    assert classify(page)["n_labels"] == len(NAMES)


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(locked_page: Page) -> None:
    """A wrong one is refused in words for people; the right one goes with every request."""
    page = locked_page
    field = page.get_by_label("This service needs an API key")
    expect(page.get_by_role("button", name="Classify", exact=True)).to_have_count(0)
    field.fill("wrong")
    field.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The service does not take this API key.")
    expect(page.locator("main")).not_to_contain_text("Authorization")
    field.fill(KEY)
    field.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    choose(page, HARP, *NAMES)
    classify(page)
    page.reload()
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_visible()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert KEY not in page.content()


def test_a_key_that_works_may_be_changed_or_not(locked_page: Page) -> None:
    """The form can be closed. One that is no longer taken has to be changed, and its fault goes with it."""
    page = locked_page
    field, other = (page.get_by_label(f"{text} API key") for text in ("This service needs an", "Another"))
    field.fill(KEY)
    field.press("Enter")
    page.get_by_role("button", name="Change the API key").click()
    expect(other).to_be_focused()
    expect(other).to_have_value("")
    page.get_by_role("button", name="Close").click()
    expect(other).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    choose(page, HARP, *NAMES)
    refusal = {"code": "unauthenticated", "detail": "Authorization: Bearer KEY", "status": 401}
    page.route("**/v1/classify", lambda route: route.fulfill(status=401, json=refusal))
    page.get_by_role("button", name="Classify", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The service does not take this API key.")
    expect(page.get_by_role("alert")).to_be_in_viewport()
    page.unroute_all()
    field.fill(KEY)
    field.press("Enter")
    expect(field).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert classify(page)["n_labels"] == len(NAMES)


def test_a_key_that_no_key_looks_like_is_refused_by_the_page(locked_page: Page) -> None:
    """A sign that nobody sees came with it, and no browser sends that; it is no fault of the connection."""
    page = locked_page
    field = page.get_by_label("This service needs an API key")
    field.fill(f"{KEY}\u200b")
    field.press("Enter")
    fault = page.get_by_role("alert")
    expect(fault).to_contain_text("spaces or characters that no key has; copy it again")
    expect(fault.get_by_role("button")).to_have_count(0)
    field.fill(f" {KEY} ")
    field.press("Enter")
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_visible()
    expect(fault).to_have_count(0)


def test_the_request_to_copy_names_the_key_but_does_not_have_it(locked_page: Page) -> None:
    """What is copied is often pasted where others read it."""
    page = locked_page
    page.get_by_label("This service needs an API key").fill(KEY)
    page.keyboard.press("Enter")
    choose(page, HARP, *NAMES)
    page.get_by_text("The same request from your own program").click()
    code = page.locator(".snippets pre")
    expect(code).to_contain_text("Bearer $AHSE_API_KEY")
    for language in ("Python", "JavaScript"):
        page.get_by_role("button", name=language, exact=True).click()
        expect(code).to_contain_text("Authorization")
        assert KEY not in code.inner_text()


def test_a_clip_that_is_too_large_is_not_even_sent(locked_page: Page, tmp_path: Path) -> None:
    """The page knows the limit from the service."""
    page = locked_page
    page.get_by_label("This service needs an API key").fill(KEY)
    page.keyboard.press("Enter")
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(80_000))
    page.locator("input[type=file]").set_input_files(large)
    expect(page.get_by_text("large.mp4 has 80 kB; this service takes at most 70 kB.")).to_be_visible()
    expect(page.locator(".drop-name")).to_have_text("Drop a clip here, or choose one")


def test_a_service_that_is_away_when_the_page_opens_is_asked_again(page: Page) -> None:
    """The page's files come from the cache of the browser, or were loaded before."""
    page.route("**/v1/info", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The connection to the service was lost.")
    page.unroute("**/v1/info")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("button", name="Classify", exact=True)).to_be_visible()
