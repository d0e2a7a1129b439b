"""What `kubectl kustomize` makes of the overlays, and where things are in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
SERVE_CONFIG = ROOT / "deploy" / "ray" / "serve.yaml"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
# Of kustomize, which is part of kubectl, older versions know no components.
_LEAST_VERSION = 5

Manifest = dict[str, Any]


def _kubectl() -> str | None:
    path = shutil.which("kubectl")
    if path is None:
        return None
    words = [path, "version", "--client", "--output", "json"]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r'"kustomizeVersion": "v(\d+)', said)
    return path if found and int(found[1]) >= _LEAST_VERSION else None


KUBECTL = _kubectl()


def build(folder: Path) -> list[Manifest]:
    """The objects of a folder with a kustomization."""
    done = subprocess.run(  # noqa: S603  (our own files)
        [str(KUBECTL), "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@cache
def overlay(name: str) -> list[Manifest]:
    """The objects of an overlay. Don't change them."""
    return build(KUBERNETES / "overlays" / name)


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    """Those of one kind."""
    return [one for one in objects if one["kind"] == kind]


def pod_templates(objects: list[Manifest]) -> Iterator[Manifest]:
    """Of everything that makes pods; each has metadata and spec."""
    for one in objects:
        if one["kind"] in ("StatefulSet", "Job"):
            yield one["spec"]["template"]
        if one["kind"] == "RayService":
            cluster = one["spec"]["rayClusterConfig"]
            yield cluster["headGroupSpec"]["template"]
            yield from (group["template"] for group in cluster["workerGroupSpecs"])


def containers(objects: list[Manifest]) -> Iterator[Manifest]:
    """All of all pods."""
    for template in pod_templates(objects):
        yield from template["spec"]["containers"]


def n_bytes(quantity: str) -> int:
    """A quantity such as 5Gi."""
    return int(quantity[:-2]) * {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[quantity[-2:]]


def image_says(pattern: str) -> str:
    """The one value that a pattern finds in the Dockerfile."""
    (found,) = set(re.findall(pattern, DOCKERFILE))
    return str(found)
