"""The service's tests run where the training packages are not installed, as `make test-service` has it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FILES = [TESTS / "conftest.py", TESTS / "toy.py", *sorted((TESTS / "service").rglob("*.py"))]
# What the extras `cpu` and `test` and the service itself bring, by the names that are imported.
PACKAGES = {
    *(
        "PIL",
        "av",
        "fastapi",
        "httpcore2",
        "httpx2",
        "hypothesis",
        "numpy",
        "onnx",
        "onnxruntime",
        "opentelemetry",
        "pydantic",
        "pytest",
    ),
    *("safetensors", "scipy", "service", "starlette", "structlog", "tests", "tokenizers", "typer"),
    *("alembic", "fsspec", "openai", "psycopg", "sqlalchemy"),
    *("prometheus_client", "pyarrow", "uvicorn"),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_only_packages_of_the_service_are_imported(path: Path) -> None:
    """No torch, no model_export, no demo_world, no benchmarks; the tests' own modules are the service's."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            assert module.partition(".")[0] in PACKAGES | sys.stdlib_module_names
            assert not module.startswith(("tests.model_export", "tests.demo_world", "tests.benchmarks"))
