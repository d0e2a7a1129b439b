"""onnxruntime is set up before any of it is imported, by the service and by the training side."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_CODE = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print("telemetry off:", os.environ.get("ORT_DISABLE_TELEMETRY") == "1")
sys.meta_path.insert(0, Watch())
from service.runtime.graph import onnxruntime
assert onnxruntime() is onnxruntime()
"""


def test_telemetry_is_off_before_the_import() -> None:
    """At its import some builds look up a host and write a device id."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", _CODE], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    assert done.stdout == "telemetry off: True\n"


@pytest.mark.parametrize("package", ["service", "model_export", "demo_world"])
def test_no_module_imports_onnxruntime_when_it_is_imported(package: str) -> None:
    """Only inside functions, which set it up first; for types alone it does not count."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] == "onnxruntime"], path
