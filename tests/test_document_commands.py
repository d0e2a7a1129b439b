"""Every command and every piece of code in the documents is run, as a reader would, or says why it is not.

A block is left out by a comment right above it, `<!-- not run: REASON -->`, and run with the slow tests only
by `<!-- slow -->`. The blocks of a page are run in order, in one folder, beside a real service.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from benchmarks.servers import free_port, running, serve_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "integrations").rglob("README.md")),
]
BLOCK = re.compile(r"(?:<!-- (not run: \S.*?|slow) -->\n)?```(\w*)\n(.*?)```", re.DOTALL)
SHELL, RUN = "sh", ("sh", "python")
# HTTP errors are failures; the reader's service is the one of the test.
PREAMBLE = """
set -euo pipefail
curl() { command curl --fail-with-body "$@"; }
"""


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    text: str
    comment: str


def blocks_of(page: Path) -> list[Block]:
    """All blocks, in order."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, comment) for comment, language, text in found]


def _named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_data_in_documents_is_well_formed(page: Path) -> None:
    """JSON and YAML, which readers copy."""
    for block in blocks_of(page):
        if block.language == "json":
            json.loads(block.text)
        if block.language in ("yaml", "yml"):
            yaml.safe_load(block.text)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with both embedded bundles."""
    port, data = free_port(), tmp_path_factory.mktemp("data")
    bundles = ROOT / "weights" / "everyday", "--bundle", str(ROOT / "weights" / "demo")
    command = serve_command(bundles[0], port, data, *bundles[1:])
    with running(command, port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader has at hand: the checkout's folders, a clip, and a folder of clips."""
    for name in ("examples", "benchmarks", "demo_world", "integrations", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "weights").mkdir()
    for bundle in ("everyday", "demo"):
        (tmp_path / "weights" / bundle).symlink_to(ROOT / "weights" / bundle)
    clips = tmp_path / "CLIPS"
    clips.mkdir()
    for clip in sorted((ROOT / "examples").glob("*.mp4"))[:2]:
        (clips / clip.name).symlink_to(clip)
    (tmp_path / "CLIP.mp4").symlink_to(next(clips.iterdir()).resolve())
    return tmp_path


def _run(blocks: list[Block], folder: Path, url: str, limit_s: float) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "AHSE_DATA_DIR": str(folder / "data"),
        "NO_COLOR": "1",
    }
    for block in blocks:
        text = block.text.replace("http://127.0.0.1:8000", url).replace(".venv-serve/bin/", "")
        text = text.replace(".venv/bin/", "")
        command = ["bash", "-c", PREAMBLE + text] if block.language == SHELL else [sys.executable, "-c", text]
        done = subprocess.run(  # noqa: S603  (commands of our own documents)
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def _runnable(page: Path, *, slow: bool) -> list[Block]:
    blocks = [block for block in blocks_of(page) if block.language in RUN]
    if any(block.comment == "slow" for block in blocks) and not slow:
        blocks = [block for block in blocks if block.comment != "slow"]
    return [block for block in blocks if not block.comment.startswith("not run")]


@pytest.mark.parametrize("page", [page for page in PAGES if _runnable(page, slow=False)], ids=_named)
def test_the_commands_of_a_page_run(page: Path, folder: Path, url: str) -> None:
    """In order, in one folder."""
    _run(_runnable(page, slow=False), folder, url, 60)


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.comment == "slow" for block in blocks_of(page))],
    ids=_named,
)
def test_the_slow_commands_of_a_page_run_too(page: Path, folder: Path, url: str) -> None:
    """All of its commands, in order."""
    _run(_runnable(page, slow=True), folder, url, 900)
