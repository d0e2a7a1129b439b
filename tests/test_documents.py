"""Links, file names and settings in the documents are those of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "integrations").glob("*/README.md")),
]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
PICTURE = re.compile(r"<img [^>]*src=\"([^\"]+)\"")
SOURCE = re.compile(
    r"(?<![\w/.])((?:service|model_export|demo_world|benchmarks|integrations|supply_chain|tests|docker|deploy)/[\w/]+\.(?:py|sh|yaml))"
)


def anchors(page: Path) -> set[str]:
    """The anchors that renderers make of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    """Pictures too. Links to other sites are not followed."""
    text = page.read_text(encoding="utf-8")
    for file in PICTURE.findall(text):
        assert (page.parent / file).is_file(), file
    for file, anchor in LINK.findall(text):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), (file, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_source_files_named_in_documents_exist(page: Path) -> None:
    """A file that moved has its new name in the documents."""
    for name in SOURCE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_environment_variables_in_documents_are_settings(page: Path) -> None:
    """A setting that was removed or renamed is not in the documents."""
    known = {f"AHSE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"\bAHSE_[A-Z][A-Z_]+\b", page.read_text(encoding="utf-8"))) <= known
