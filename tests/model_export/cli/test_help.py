"""Every training command answers `--help` without loading the training packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "av",
    "fastapi",
)
_CODE = """
import importlib, sys

module, _, app = sys.argv[1].partition(":")
heavy, words = set(sys.argv[2].split(",")), sys.argv[3:]

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in heavy:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Missing())
getattr(importlib.import_module(module), app)(args=[*words, "--help"], prog_name="ahse")
"""


@pytest.mark.parametrize(
    ("app", "words", "says"),
    [
        ("train_commands:train_app", [], "--legacy-text-order"),
        ("train_commands:evaluate_app", [], "RUN... DATASET..."),
        ("train_commands:report_app", [], "report.html"),
        ("clip_commands:extract_app", [], "--bundle"),
        ("clip_commands:calibrate_app", [], "BUNDLE"),
        ("dataset_commands:app", [], "simulate"),
        ("dataset_commands:app", ["simulate"], "--low-rank-share"),
        ("export_commands:app", [], "clip-clap"),
        ("export_commands:app", ["clip-clap"], "--image-model"),
        ("export_commands:app", ["custom"], "MODULE:FUNCTION"),
        ("export_commands:app", ["head"], "--encoders"),
    ],
)
def test_help_needs_no_heavy_package(app: str, words: list[str], says: str) -> None:
    """In a process of its own in which none of them can be imported; no completion is offered."""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", _CODE, f"model_export.cli.{app}", ",".join(HEAVY), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stdout
    assert "--install-completion" not in done.stdout
