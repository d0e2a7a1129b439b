"""`make sbom`: what an image contains as a CycloneDX bill of materials.

Python packages with their licences (cyclonedx-py reads their metadata) and the hashes that they are installed
by, the embedded bundles with their files and licences, and, from the file system of a built image, its Debian
packages. The same contents make the same bytes: there is no time and no serial number in it.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name

import service

ROOT = Path(service.__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
_SPEC = SchemaVersion.V1_6
_PACKAGES_IN_IMAGE = "app/lib/python3.11/site-packages"
_HASHES = "files that this version may be installed from, as pinned in constraints.txt"

Component = dict[str, Any]


class BillError(Exception):
    """No bill could be made; says why."""


def make_bill(image: str, packages: Path | None = None, root: Path | None = None) -> str:
    """The bill of materials as JSON, from one of two places.

    Args:
        image: `cpu` or `gpu`.
        packages: Directory of installed Python packages; Debian packages are left out.
        root: File system of the image.

    Raises:
        BillError: Both or neither are given, or a package is installed that is not pinned.
    """
    if root is not None and packages is None:
        packages = root / _PACKAGES_IN_IMAGE
    elif root is not None or packages is None:
        raise BillError("give either installed packages or the file system of an image")
    bill = _python_packages(packages)
    pinned = read_hashes(CONSTRAINTS)
    for component in bill["components"]:
        component.setdefault("externalReferences", []).append(_hashes_of(component, pinned))
    bill["components"] += [_bundle(path) for path in sorted((ROOT / "weights").iterdir()) if path.is_dir()]
    if root is not None:
        bill["components"] += debian_packages(root)
    bill["metadata"]["component"]["version"] = service.__version__
    bill["metadata"]["component"]["properties"] = [{"name": "ahse:image", "value": image}]
    return json.dumps(bill, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def check(bill: str) -> None:
    """Compare a bill with the schema, which comes with the library.

    Raises:
        BillError: It differs.
    """
    fault = JsonStrictValidator(_SPEC).validate_str(bill)
    if fault is not None:
        raise BillError(f"the bill of materials does not have the form of CycloneDX: {fault}")


def _python_packages(packages: Path) -> dict[str, Any]:
    """What cyclonedx-py makes of installed packages: names, versions, licences, and who needs whom."""
    with tempfile.TemporaryDirectory() as folder:
        # The tool asks an interpreter where packages are. That of an image can't run outside of the image, so
        # another one answers.
        interpreter = Path(folder) / "python"
        places = shlex.quote(json.dumps([str(packages.resolve())]))
        interpreter.write_text(f"#!/bin/sh\nprintf %s {places}\n", encoding="utf-8")
        interpreter.chmod(0o700)
        words = ["environment", interpreter, "--pyproject", ROOT / "pyproject.toml", "--output-reproducible"]
        # Not validated yet: that takes seconds, and `check` does it when all is there.
        words += ["--spec-version", _SPEC.to_version(), "--output-format", "JSON", "--no-validate"]
        done = subprocess.run(  # noqa: S603  (our own words)
            [sys.executable, "-m", "cyclonedx_py", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise BillError(f"cyclonedx-py failed: {done.stderr.strip()[-300:]}")
    bill: dict[str, Any] = json.loads(done.stdout)
    if not bill.get("components"):
        raise BillError(f"there are no installed packages in {packages}")
    return bill


def read_hashes(constraints: Path) -> dict[tuple[str, str], list[str]]:
    """SHA-256 of the files of each pinned name and version."""
    pins = constraints.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found: dict[tuple[str, str], list[str]] = {}
    for pin in pins:
        name, _, rest = pin.partition("==")
        found[str(canonicalize_name(name)), rest.split(" ")[0]] = re.findall(r"sha256:([0-9a-f]{64})", rest)
    return found


def _hashes_of(component: Component, pinned: dict[tuple[str, str], list[str]]) -> dict[str, Any]:
    hashes = pinned.get((str(canonicalize_name(component["name"])), component["version"]))
    if not hashes:
        raise BillError(f"{component['name']} {component['version']} is installed, but not pinned")
    contents = [{"alg": "SHA-256", "content": one} for one in hashes]
    return {"type": "distribution", "url": component["purl"], "comment": _HASHES, "hashes": contents}


def _bundle(folder: Path) -> Component:
    """An embedded bundle with its files."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    ref = f"bundle:{manifest['name']}"
    licences = sorted({one["licence"] for one in manifest["licences"]})
    return {
        "type": "machine-learning-model",
        "bom-ref": ref,
        "name": manifest["name"],
        "version": manifest["version"],
        "description": manifest["description"],
        "licenses": [{"license": {"name": licence}} for licence in licences],
        "components": [
            {
                "type": "file",
                "bom-ref": f"{ref}/{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            }
            for name, sha256 in sorted(manifest["files"].items())
        ],
    }


def debian_packages(root: Path) -> Iterator[Component]:
    """Installed packages of a Debian file system; dpkg keeps no licences, those are in their copyright files.

    Raises:
        BillError: There are none.
    """
    release = dict(
        line.split("=", 1)
        for line in (root / "etc/os-release").read_text(encoding="utf-8").splitlines()
        if "=" in line
    )
    distribution = f"debian-{release['VERSION_ID'].strip(chr(34))}"
    status = (root / "var/lib/dpkg/status").read_text(encoding="utf-8")
    paragraphs = [Parser().parsestr(text) for text in status.split("\n\n") if text.strip()]
    installed = [one for one in paragraphs if one["Status"].endswith(" installed")]
    if not installed:
        raise BillError(f"{root} has no installed Debian packages")
    for one in sorted(installed, key=lambda package: str(package["Package"])):
        name, version, architecture = one["Package"], one["Version"], one["Architecture"]
        purl = PackageURL("deb", "debian", name, version, {"arch": architecture, "distro": distribution})
        yield {
            "type": "library",
            "bom-ref": f"deb:{name}:{architecture}",
            "name": name,
            "version": version,
            "description": one["Description"].splitlines()[0],
            "purl": purl.to_string(),
        }


def summary(bill: str) -> str:
    """How much a bill lists."""
    components = json.loads(bill)["components"]
    kinds = {
        "Python packages": [one for one in components if one.get("purl", "").startswith("pkg:pypi/")],
        "bundles": [one for one in components if one["type"] == "machine-learning-model"],
        "Debian packages": [one for one in components if one.get("purl", "").startswith("pkg:deb/")],
    }
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items())
    without = [one["name"] for one in kinds["Python packages"] if not one.get("licenses")]
    return f"{counts}; Python packages without a licence in their metadata: {', '.join(without) or 'none'}"
