"""Which room may import which, and packages that the service must not need or load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# From the bottom up: a room may import itself and rooms of earlier lines (docs/architecture.md).
ROOMS = [
    ["arrays", "errors", "faults", "media", "process", "cancellation", "option_texts", "log", "client"],
    ["database", "postgres", "tracing"],
    ["access"],
    ["bundle", "runtime", "labels", "decode", "ranking", "jobs"],
    ["options", "encode"],
    ["head", "batch", "guarantee"],
    ["registry", "settings"],
    ["embed"],
    ["best"],
    ["classification"],
    ["classifier", "stores"],
    ["api"],
    ["cli"],
]
LEVELS = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
MODULES = sorted((ROOT / "service").rglob("*.py"))


def _room(module: str) -> str:
    """The room of a module: `head` for `service.head.ahse`."""
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> set[str]:
    """Modules that a file imports; `from a.b import c` counts as a.b and a.b.c."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_order_of_rooms_is_complete() -> None:
    """ROOMS has every room of the service, and no other."""
    found = {path.relative_to(ROOT / "service").parts[0].removesuffix(".py") for path in MODULES}
    assert found - {"__init__"} == set(LEVELS)


def test_the_document_has_the_same_order() -> None:
    """docs/architecture.md lists all rooms from the bottom up, and none twice."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text[text.index("| rooms of service/") : text.index("| rooms of model_export/")]
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    named = [room.strip() for row in rows for room in row.split(",")]
    levels = [LEVELS[room] for room in named]
    assert sorted(named) == sorted(LEVELS)
    assert levels == sorted(levels)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards_only(path: Path) -> None:
    """A room imports itself and lower ones, and nothing of the service imports model_export."""
    own = path.relative_to(ROOT / "service").parts[0].removesuffix(".py")
    for imported in _imports(path):
        assert not imported.startswith(("torch", "model_export", "demo_world")), imported
        room = _room(imported) if imported.startswith("service.") else ""
        if room in LEVELS and room != own:
            assert LEVELS[room] < LEVELS[own], f"{own} imports {imported}"


def test_only_one_file_imports_onnxruntime() -> None:
    """So another runtime would change one file."""
    users = [path for path in MODULES if "onnxruntime" in _imports(path)]
    assert users == [ROOT / "service" / "runtime" / "graph.py"]


@pytest.mark.parametrize(
    "command",
    [
        *([], ["serve"], ["classify"], ["bundle"], ["bundle", "inspect"], ["keys"], ["keys", "create"]),
        *(
            ["bulk"],
            ["bulk", "plan"],
            ["bulk", "run"],
            ["store"],
            ["store", "upgrade"],
            ["store", "import"],
            ["labels"],
            ["labels", "put"],
            ["info"],
        ),
    ],
)
def test_help_works_without_heavy_packages(command: list[str]) -> None:
    """In a process in which packages that are slow to import can't be imported at all."""
    code = f"""
import sys
heavy = {{"onnxruntime", "av", "fastapi", "starlette", "uvicorn", "pydantic", "numpy", "torch", "rich"}}
heavy |= {{"httpx2", "sqlalchemy", "psycopg", "alembic"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in heavy:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["ahse", *{command!r}, "--help"]
from service.cli import main
main()
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: ahse" in done.stdout


def test_the_service_runs_without_other_packages(toy_bundle: Path, tmp_path: Path) -> None:
    """Where neither those of training nor of the store of replicas can be imported, an app starts.

    And all modules load, but for those of that store.
    """
    code = f"""
import pkgutil, sys, importlib
banned = {{"torch", "torchvision", "transformers", "open_clip", "laion_clap", "onnx", "model_export"}}
banned |= {{"sqlalchemy", "psycopg", "alembic"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in banned:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Refuse())
import service
for module in pkgutil.walk_packages(service.__path__, "service."):
    is_optional = "postgres" in module.name.split(".")
    if not is_optional and module.name not in ("service.decode.worker", "service.cli.__main__"):
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
