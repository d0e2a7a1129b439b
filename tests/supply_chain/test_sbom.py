"""Bills of materials: complete, valid by the schema, and the same bytes each time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import service
from supply_chain.__main__ import app
from supply_chain.audit import read_pins
from supply_chain.sbom import CONSTRAINTS, BillError, check, make_bill, read_hashes, summary

VERSIONS = {name: str(version) for name, version in read_pins(CONSTRAINTS)}
PACKAGES = "app/lib/python3.11/site-packages"
STATUS = """\
Package: zlib1g
Status: install ok installed
Maintainer: Mark Brown <broonie@debian.org>
Architecture: amd64
Version: 1:1.2.13.dfsg-1
Description: compression library - runtime
 zlib is a library.

Package: removed
Status: deinstall ok config-files
Architecture: amd64
Version: 1
Description: gone

Package: base-files
Status: install ok installed
Architecture: amd64
Version: 12.4+deb12u12
Description: Debian base system miscellaneous files
"""


def _install(packages: Path, name: str, version: str, *metadata: str) -> None:
    folder = packages / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *metadata, ""]
    (folder / "METADATA").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an image looks like: packages that need each other, the service, Debian. Don't change it."""
    root = tmp_path_factory.mktemp("image")
    packages = root / PACKAGES
    _install(packages, "anyio", VERSIONS["anyio"], "License-Expression: MIT", "Requires-Dist: idna>=2.8")
    _install(packages, "idna", VERSIONS["idna"], "License-Expression: BSD-3-Clause")
    _install(packages, "ahse", service.__version__, "License-Expression: Apache-2.0", "Requires-Dist: anyio")
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n\n')
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    return root


@pytest.fixture(scope="module")
def bill(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command writes of it; that it wrote says that the schema is kept."""
    out = tmp_path_factory.mktemp("bills") / "made" / "cpu.json"
    done = CliRunner().invoke(app, ["sbom", "cpu", "--root", str(root), "--out", str(out)])
    assert done.exit_code == 0, done.stderr
    assert "2 Python packages, 2 bundles, 2 Debian packages" in done.stdout
    return out.read_text()


def _by_name(bill: str) -> dict[str, Any]:
    return {component["name"]: component for component in json.loads(bill)["components"]}


def test_an_image_with_all_that_is_in_it(bill: str) -> None:
    """Packages with licence and hashes, bundles with their files, Debian's packages."""
    found = _by_name(bill)
    assert set(found) == {"anyio", "idna", "demo", "everyday", "base-files", "zlib1g"}
    anyio = found["anyio"]
    assert (anyio["version"], anyio["purl"]) == (VERSIONS["anyio"], f"pkg:pypi/anyio@{VERSIONS['anyio']}")
    assert anyio["licenses"][0]["license"]["id"] == "MIT"
    (origin,) = [one for one in anyio["externalReferences"] if one["type"] == "distribution"]
    pinned = read_hashes(CONSTRAINTS)["anyio", VERSIONS["anyio"]]
    assert [one["content"] for one in origin["hashes"]] == pinned
    assert found["everyday"]["type"] == "machine-learning-model"
    assert any("Apache-2.0" in one["license"]["name"] for one in found["everyday"]["licenses"])
    assert {one["name"] for one in found["everyday"]["components"]} >= {"visual.onnx", "LICENSES"}
    assert found["zlib1g"]["purl"] == "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1?arch=amd64&distro=debian-12"


def test_the_service_is_the_subject_of_the_bill(bill: str) -> None:
    """Not a component of itself; what needs what is in it."""
    content = json.loads(bill)
    subject = content["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("ahse", service.__version__)
    assert {"name": "ahse:image", "value": "cpu"} in subject["properties"]
    needs = {one["ref"]: one.get("dependsOn", []) for one in content["dependencies"]}
    assert needs[f"anyio=={VERSIONS['anyio']}"] == [f"idna=={VERSIONS['idna']}"]


def test_the_same_contents_make_the_same_bytes(bill: str, root: Path, tmp_path: Path) -> None:
    """No time, no serial number, no path of the machine."""
    assert make_bill("cpu", root=shutil.copytree(root, tmp_path / "elsewhere")) == bill
    assert "timestamp" not in bill
    assert "serialNumber" not in bill
    assert str(root.parent) not in bill


def test_packages_alone_without_a_built_image(root: Path) -> None:
    """As `make sbom` has them: all but Debian's."""
    bill = make_bill("cpu", packages=root / PACKAGES)
    assert set(_by_name(bill)) == {"anyio", "idna", "demo", "everyday"}
    assert "2 Python packages, 2 bundles, 0 Debian packages" in summary(bill)


def test_a_package_that_is_not_pinned_is_an_error(tmp_path: Path) -> None:
    """It came from somewhere else, and so did its version; nothing is written."""
    _install(tmp_path / "packages", "stranger", "1.0")
    words = ["sbom", "cpu", "--packages", str(tmp_path / "packages"), "--out", str(tmp_path / "bill.json")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "stranger 1.0 is installed, but not pinned" in done.stderr
    assert not (tmp_path / "bill.json").exists()


@pytest.mark.parametrize(
    "places", [{}, {"packages": Path("x"), "root": Path("x")}, {"packages": Path("missing")}]
)
def test_nothing_to_list_is_an_error(places: dict[str, Path]) -> None:
    """An empty bill would look like a service without parts."""
    with pytest.raises(BillError):
        make_bill("cpu", **places)


def test_a_bill_of_another_form_is_found() -> None:
    """By the schema that comes with the library, without a network."""
    with pytest.raises(BillError, match="does not have the form of CycloneDX"):
        check('{"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"name": "x"}]}')
