"""A bundle directory is read, verified and written as a whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.bundle.directory import open_manifest, read_manifest, verify_files, write_bundle
from service.bundle.manifest import MANIFEST_FILE
from service.errors import BundleInvalidError


@pytest.fixture
def bundle(toy_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the toy bundle that a test may damage."""
    return Path(shutil.copytree(toy_bundle, tmp_path / "bundle"))


def _digest(bundle: Path) -> str:
    return open_manifest(bundle)[1]


def _edit(bundle: Path, **changes: Any) -> None:
    path = bundle / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_complete_bundle_passes(bundle: Path) -> None:
    """A bundle from write_bundle is read back and verified."""
    manifest = read_manifest(bundle)
    verify_files(bundle, manifest)
    assert manifest.name == "toy"
    assert set(manifest.files) == {path.name for path in bundle.iterdir()} - {MANIFEST_FILE}
    assert {oct(path.stat().st_mode & 0o777) for path in bundle.iterdir()} == {"0o644"}


def test_a_directory_without_a_manifest_is_refused(tmp_path: Path) -> None:
    """The commonest mistake, a wrong path, has a message of its own."""
    with pytest.raises(BundleInvalidError, match=r"there is no manifest\.json"):
        read_manifest(tmp_path)
    with pytest.raises(BundleInvalidError, match="there is no such folder"):
        read_manifest(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "[" * 100_000])
def test_a_manifest_that_is_not_a_json_object_is_refused(bundle: Path, text: str) -> None:
    """Broken JSON is an error of the bundle, not of the parser."""
    (bundle / MANIFEST_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BundleInvalidError, match="JSON"):
        read_manifest(bundle)


def test_a_newer_format_is_reported_before_its_unknown_fields(bundle: Path) -> None:
    """The user reads about the version, not about an unknown field."""
    _edit(bundle, format_version=2, unheard_of=True)
    with pytest.raises(BundleInvalidError, match="format version is 2; this service reads 1"):
        read_manifest(bundle)


def test_a_bundle_for_a_newer_service_is_refused(bundle: Path) -> None:
    """The message names both versions."""
    _edit(bundle, requires_service="99.0.0")
    with pytest.raises(BundleInvalidError, match=r"needs service 99\.0\.0 or newer; this is \d"):
        read_manifest(bundle)


@pytest.mark.parametrize("version", ["\u00b2", "1.\u0663.0", "1." + "9" * 5_000])
def test_a_version_that_is_no_number_is_an_error_of_the_manifest(bundle: Path, version: str) -> None:
    """Some digits of Unicode are no numbers to Python, and numbers may be too long for it."""
    _edit(bundle, requires_service=version)
    with pytest.raises(BundleInvalidError):
        read_manifest(bundle)


def test_an_unknown_field_of_a_manifest_is_named(bundle: Path) -> None:
    """A typing error can't pass unnoticed."""
    _edit(bundle, tempreature=1.0)
    with pytest.raises(BundleInvalidError, match="tempreature"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", ".hidden", "a/b", ""])
def test_file_names_cannot_point_outside_the_bundle(bundle: Path, name: str) -> None:
    """A manifest can only name files next to itself."""
    files = json.loads((bundle / MANIFEST_FILE).read_text())["files"]
    _edit(bundle, files={**files, name: "0" * 64})
    with pytest.raises(BundleInvalidError, match="files"):
        read_manifest(bundle)


def test_a_file_without_a_hash_is_refused(bundle: Path) -> None:
    """Every file that is used must have a sha256."""
    files = json.loads((bundle / MANIFEST_FILE).read_text())["files"]
    del files["visual.onnx"]
    _edit(bundle, files=files)
    with pytest.raises(BundleInvalidError, match=r"visual\.onnx"):
        read_manifest(bundle)


def test_all_damaged_files_are_named_in_one_message(bundle: Path) -> None:
    """The user need not fix them one by one."""
    (bundle / "audio.onnx").unlink()
    with (bundle / "visual.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BundleInvalidError, match=r"audio\.onnx is missing; visual\.onnx is not the file"):
        verify_files(bundle, read_manifest(bundle))


def test_the_digest_changes_with_the_manifest(bundle: Path) -> None:
    """Caches rely on the digest."""
    before = _digest(bundle)
    _edit(bundle, description="another")
    assert _digest(bundle) != before


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(bundle: Path) -> None:
    """An interrupted export must neither look finished nor destroy the old bundle."""
    before = _digest(bundle)

    def fail(aside: Path) -> None:
        (aside / "visual.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_bundle(bundle, fail, lambda _: read_manifest(bundle))
    assert _digest(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_write_replaces_an_older_bundle(bundle: Path, toy_bundle: Path) -> None:
    """The new bundle has the path of the old one, and nothing else is left."""
    _edit(bundle, description="old")
    manifest = read_manifest(toy_bundle)

    def fill(aside: Path) -> None:
        for name in manifest.files:
            shutil.copyfile(toy_bundle / name, aside / name)

    write_bundle(bundle, fill, lambda files: manifest.model_copy(update={"files": files}))
    assert _digest(bundle) == _digest(toy_bundle)
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]
