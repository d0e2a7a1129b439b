"""The request of the page from one's own program, in each language, run as it stands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import EXAMPLES
from tests.browser.steps import HARP, choose, classify, paste


@pytest.mark.parametrize("language", ["curl", "Python", "JavaScript"])
def test_the_request_to_copy_gives_the_same_answer(page: Page, language: str) -> None:
    """It is run as it stands, from the folder of the clip; names with quotes and brackets too."""
    choose(page, HARP, "bead with a harp", 'it\'s a "$HOME" `x` \\n', "@file", "[music]", "a;type=b")
    page.get_by_role("button", name="Keep as one name").click()
    answer = classify(page)
    page.get_by_text("The same request from your own program").click()
    page.get_by_role("button", name=language, exact=True).click()
    code = page.locator(".snippets pre").inner_text()
    expected = [(one["label"], one["score"]) for one in answer["predictions"]]
    if language == "JavaScript":
        clip = "const clip = document.querySelector('input[type=file]').files[0];"
        got = page.evaluate(f"async () => {{ {clip} {code}; return answer; }}")
        assert [(one["label"], one["score"]) for one in got["predictions"]] == expected
        return
    command = ["sh", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    done = subprocess.run(  # noqa: S603  (a request to our own service)
        command, capture_output=True, text=True, cwd=EXAMPLES, check=True
    )
    if language == "curl":
        assert [(one["label"], one["score"]) for one in json.loads(done.stdout)["predictions"]] == expected
    else:
        assert done.stdout.splitlines() == [f"{score:.3f}  {label}" for label, score in expected]


def test_very_many_names_are_read_by_curl_from_a_file(page: Page, tmp_path: Path) -> None:
    """Linux starts no command with 128 KiB in one argument; the page saves the names for it."""
    shutil.copy(HARP, tmp_path)
    choose(page, HARP)
    paste(page, "\n".join(f"{i} {'犬' * 250}" for i in range(180)))
    answer = classify(page)
    page.get_by_text("The same request from your own program").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the names").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    command = ["sh", "-c", page.locator(".snippets pre").inner_text()]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, check=True)  # noqa: S603
    assert json.loads(done.stdout)["predictions"] == answer["predictions"]
    page.get_by_role("button", name="Python", exact=True).click()
    expect(page.get_by_role("button", name="Save the names")).to_have_count(0)


@pytest.mark.parametrize(
    ("language", "line"),
    [
        ("curl", """--form-string 'labels=["cat","dog barking"]'"""),
        ("Python", """("labels", '["cat","dog barking"]'),"""),
        ("JavaScript", """form.append("labels", '["cat","dog barking"]');"""),
    ],
)
def test_the_request_to_copy_can_be_read(page: Page, language: str, line: str) -> None:
    """Ordinary names are in it as people write them, without a backslash."""
    choose(page, HARP, "cat", "dog barking")
    page.get_by_text("The same request from your own program").click()
    page.get_by_role("button", name=language, exact=True).click()
    expect(page.locator(".snippets pre")).to_contain_text(line)
