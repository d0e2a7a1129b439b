"""What may import what, and what the service must never need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# From the bottom up: a room may import rooms to its left only.
ROOMS = [
    [
        "service",
        "service.process",
        "service.cancellation",
        "service.errors",
        "service.media",
        "service.process",
    ],
    ["service.bundle", "service.labels"],
    ["service.batch", "service.decode", "service.encode"],
    ["service.rank"],
    ["service.candidates"],
    ["service.classifier"],
    ["service.settings", "service.log"],
    ["service.api"],
    ["service.cli"],
]


def _modules(package: str) -> list[tuple[str, Path]]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return [(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), p) for p in paths]


def _imports(path: Path) -> set[str]:
    """Modules that a file imports, `from a.b import c` counted as a.b and a.b.c."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _level(module: str) -> int:
    """The level of the longest room name that the module is in."""
    fits = [
        (len(room), level)
        for level, rooms in enumerate(ROOMS)
        for room in rooms
        if module == room or (room != "service" and module.startswith(f"{room}."))
    ]
    return max(fits)[1] if fits else -1


@pytest.mark.parametrize(("module", "path"), _modules("service"), ids=lambda value: str(value).split("/")[-1])
def test_imports_go_downwards_only(module: str, path: Path) -> None:
    """No room looks up; nothing of the service knows model_export, except the command line's door by name."""
    assert _level(module) >= 0, f"{module} is in no room; add it to ROOMS"
    for imported in _imports(path):
        assert not imported.startswith(("torch", "model_export")), imported
        if imported.startswith("service.") and _level(imported) >= 0:
            assert _level(imported) <= _level(module), f"{module} imports {imported}"


@pytest.mark.parametrize("package", ["service", "model_export"])
def test_every_file_has_its_line_in_the_architecture(package: str) -> None:
    """docs/architecture.md says of each file what the file says of itself."""
    document = (ROOT / "docs" / "architecture.md").read_text()
    for module, path in _modules(package):
        if path.name == "__init__.py":
            continue
        first = (ast.get_docstring(ast.parse(path.read_text())) or "").splitlines()[0]
        assert f"| `{path.name}` | {first} |" in document, module


def test_only_one_file_imports_onnxruntime() -> None:
    """The runtime can be exchanged in one place."""
    users = [module for module, path in _modules("service") if "onnxruntime" in _imports(path)]
    assert users == ["service.runtime.graph"]


def test_the_whole_service_runs_without_the_training_packages(toy_bundle: Path, tmp_path: Path) -> None:
    """In a process of its own: torch and its friends are not only not needed, they are not loaded."""
    code = f"""
import pkgutil, sys, importlib
banned = {{"torch", "torchvision", "transformers", "open_clip", "laion_clap", "onnx", "model_export"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in banned:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
import service
for module in pkgutil.walk_packages(service.__path__, "service."):
    if module.name not in ("service.decode.worker", "service.cli.__main__"):
        importlib.import_module(module.name)
from pathlib import Path
from service.api.app import create_app
from service.settings import Settings
create_app(Settings(bundles=(Path({str(toy_bundle)!r}),), data_dir=Path({str(tmp_path)!r})))
print(sorted(banned & set(sys.modules)))
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
