"""Answers on the example clips are those that were recorded before: a change of the code must not move them.

On one machine they are equal to the digit: they were before and after the run-time core was rebuilt, but for
`unknown` of clips with one track, which is null since. Other processors round 8-bit and 32-bit sums
differently, so the test allows for that. After a change that is meant to move answers,
record them again: `python -m tests.test_recorded_answers`; with `--check` it compares to the digit.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from service.settings import DEMO_BUNDLE, EVERYDAY_BUNDLE
from tests.conftest import Ahse

ROOT = Path(__file__).resolve().parents[1]
RECORDED = Path(__file__).parent / "recorded" / "answers.json"
BUNDLES = {"demo": DEMO_BUNDLE, "everyday": EVERYDAY_BUNDLE}
NAMES = (
    "star with a bell",
    "ring with a drum",
    "bead with a harp",
    "cog with a beep",
    "dog",
    "rain",
    "siren",
)
# What depends on the run, and on when the clips were checked out.
OF_THE_RUN = ("timings_ms", "size_bytes", "modified", "question", "label_set")
# What roundings of another processor may change in a score, a distance or a similarity.
TOLERANCE = 5e-3


def arguments(bundle: Path) -> list[str]:
    """Of `ahse`: all examples, the four best names, and segments of two seconds."""
    clips = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "examples").glob("*.mp4"))]
    names = [word for name in NAMES for word in ("--label", name)]
    options = ["--bundle", str(bundle), "--top-k", "4", "--segment-s", "2", "--json"]
    return ["classify", *clips, *names, *options]


def answers(printed: str) -> list[dict[str, Any]]:
    """The printed answers, without what a run takes."""
    lines = [json.loads(line) for line in printed.splitlines()]
    return [{key: value for key, value in line.items() if key not in OF_THE_RUN} for line in lines]


@pytest.mark.parametrize("bundle", list(BUNDLES))
def test_answers_are_those_that_were_recorded(
    bundle: str, ahse: Ahse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and their order exactly, numbers up to rounding."""
    monkeypatch.chdir(ROOT)
    code, printed, said = ahse(*arguments(BUNDLES[bundle]))
    assert code == 0, said
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[bundle]
    for found, expected in zip(answers(printed), recorded, strict=True):
        assert _rounded(found) == _rounded(expected)
        assert _numbers(found) == pytest.approx(_numbers(expected), abs=TOLERANCE)


def _rounded(value: Any) -> Any:
    """The same without its fractions."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return None if isinstance(value, float) else value


def _numbers(value: Any) -> list[float]:
    """All fractions in it, in their order."""
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] if isinstance(value, float) else [number for part in parts for number in _numbers(part)]


def recorded_now(root: Path) -> str:
    """The answers of the code in a checkout, as they are recorded."""
    found = {}
    for name in BUNDLES:
        command = [sys.executable, "-m", "service.cli", *arguments(Path("weights") / name)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603
        found[name] = answers(done.stdout)
    lines = (f'"{name}": [\n' + ",\n".join(map(json.dumps, all_of)) + "\n]" for name, all_of in found.items())
    return "{" + ",\n".join(lines) + "}\n"


if __name__ == "__main__":
    now = recorded_now(ROOT)
    if sys.argv[1:] == ["--check"]:  # to the digit, on the machine that recorded them
        sys.exit(now != RECORDED.read_text(encoding="utf-8"))
    RECORDED.write_text(now, encoding="utf-8")
