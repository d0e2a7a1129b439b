"""Advisories: which versions they are about; an audit that did not take place does not look like one."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version
from typer.testing import CliRunner

from supply_chain.__main__ import app
from supply_chain.audit import AuditError, Finding, audit, is_affected, read_pins, read_report

PINS = """\
one-package==1.5 ; python_full_version < '3.12' \\
    --hash=sha256:00
one-package==2.0 ; python_full_version >= '3.12' \\
    --hash=sha256:00 \\
    --hash=sha256:01
other==0.3.1 \\
    --hash=sha256:00
"""


def _range(*events: dict[str, str], kind: str = "ECOSYSTEM") -> dict[str, Any]:
    return {"ranges": [{"type": kind, "events": list(events)}]}


def _advisory(name: str, about: dict[str, Any], ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
    return {
        "id": f"X-{name}",
        "affected": [{"package": {"name": name, "ecosystem": ecosystem}, **about}],
        **more,
    }


@pytest.fixture
def constraints(tmp_path: Path) -> Path:
    """Two packages, one with a version for each of two kinds of systems."""
    path = tmp_path / "constraints.txt"
    path.write_text(PINS)
    return path


def _copy(folder: Path, *advisories: dict[str, Any]) -> Path:
    folder.mkdir()
    for i, advisory in enumerate(advisories):
        (folder / f"{i}.json").write_text(json.dumps(advisory))
    return folder


@pytest.mark.parametrize(
    ("about", "version", "is_about_it"),
    [
        ({"versions": ["1.0", "1.1"]}, "1.1", True),
        ({"versions": ["1.0", "1.1.0"]}, "1.1", True),
        ({"versions": ["1.0", "not a version"]}, "1.1", False),
        (_range({"introduced": "0"}), "0.0.1a1", True),
        (_range({"introduced": "0"}, {"fixed": "1.2"}), "1.2rc1", True),
        (_range({"introduced": "0"}, {"fixed": "1.2"}), "1.2", False),
        (_range({"introduced": "1.9"}, {"fixed": "1.10"}), "1.9.5", True),
        (_range({"introduced": "1.9"}, {"fixed": "1.10"}), "1.8", False),
        (_range({"introduced": "0"}, {"last_affected": "1.2"}), "1.2", True),
        (_range({"introduced": "0"}, {"last_affected": "1.2"}), "1.2.post1", False),
        (_range({"fixed": "3"}, {"introduced": "2"}, {"fixed": "1"}, {"introduced": "0"}), "2.5", True),
        (_range({"fixed": "3"}, {"introduced": "2"}, {"fixed": "1"}, {"introduced": "0"}), "1.5", False),
        (_range({"introduced": "?"}, {"fixed": "2"}), "1.5", True),
        (_range({"introduced": "?"}, {"fixed": "2"}), "2.5", False),
        (_range({"introduced": "0"}, {"fixed": "?"}), "1.5", True),
        (_range({"introduced": "0"}, kind="GIT"), "1.5", False),
        ({}, "1.5", False),
    ],
)
def test_versions_that_an_advisory_is_about(about: dict[str, Any], version: str, is_about_it: bool) -> None:
    """As OSV's schema has it: listed, or in a range; the order of events is that of their versions."""
    assert is_affected(about, Version(version)) is is_about_it


def test_pins_for_every_system_are_read(constraints: Path) -> None:
    """Whatever system this is."""
    assert read_pins(constraints) == [
        ("one-package", Version("1.5")),
        ("one-package", Version("2.0")),
        ("other", Version("0.3.1")),
    ]


def test_a_copy_of_the_advisories_is_compared_with_the_pins(constraints: Path, tmp_path: Path) -> None:
    """Names are compared as registries do; withdrawn advisories and other ecosystems are left out."""
    copy = _copy(
        tmp_path / "osv",
        _advisory("One.Package", _range({"introduced": "0"}, {"fixed": "1.6"}, {"fixed": "1.4.9"})),
        _advisory("other", {"versions": ["0.3.1"]}, withdrawn="2026-01-01T00:00:00Z"),
        _advisory("other", {"versions": ["0.3.1"]}, ecosystem="npm"),
        _advisory("third", {"versions": ["0.3.1"]}),
    )
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in copy.iterdir():
            file.write(path, path.name)
    with_finding = _copy(tmp_path / "more", _advisory("one_package", _range({"introduced": "2"})))
    assert audit(constraints, copy) == audit(constraints, archive) == ([], 3)
    assert audit(constraints, with_finding) == ([Finding("one-package", "2.0", "X-one_package", ())], 3)


def test_the_command_fails_where_there_are_findings(constraints: Path, tmp_path: Path) -> None:
    """One line for each, with the versions that have no fault; 0 only without any."""
    words = ["audit", "--constraints", str(constraints), "--advisories"]
    copy = _copy(tmp_path / "osv", _advisory("other", _range({"introduced": "0"}, {"fixed": "0.4"})))
    found = CliRunner().invoke(app, [*words, str(copy)])
    assert found.exit_code == 1
    assert found.stdout == "other 0.3.1: X-other, fixed in 0.4\n3 pinned packages, 1 advisories\n"
    none = _copy(tmp_path / "none", _advisory("other", _range({"introduced": "0"}, {"fixed": "0.3.1"})))
    assert CliRunner().invoke(app, [*words, str(none)]).exit_code == 0


@pytest.mark.parametrize("content", [None, b"no archive", b"", {}, _advisory("other", {}, ecosystem="npm")])
def test_what_is_no_copy_is_an_error(constraints: Path, tmp_path: Path, content: Any) -> None:
    """Nothing there, no archive, and one without an advisory of Python packages."""
    path = tmp_path / "osv"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        _copy(path, content)
    with pytest.raises(AuditError, match=r"readable copy|no advisories of PyPI"):
        audit(constraints, path)


def test_an_advisory_service_that_is_not_reached_is_an_error(
    constraints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip-audit ends with 1 as for advisories, but without a report; the message has the remedy."""

    def failed(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", "Traceback\nConnectionError: no route\n")

    monkeypatch.setattr(subprocess, "run", failed)
    ended = CliRunner().invoke(app, ["audit", "--constraints", str(constraints)])
    assert ended.exit_code == 2
    assert "ADVISORIES=all.zip" in ended.stderr
    assert "ConnectionError: no route" in ended.stderr


def test_reports_of_pip_audit_are_read() -> None:
    """Findings in order; a package that could not be looked up is an error, where pip-audit ends with 0."""
    vulns = [{"id": "B", "fix_versions": ["2"], "aliases": []}, {"id": "A", "fix_versions": []}]
    report = {"dependencies": [{"name": "one", "version": "1", "vulns": vulns}]}
    assert read_report(report) == ([Finding("one", "1", "A", ()), Finding("one", "1", "B", ("2",))], 1)
    report["dependencies"].append({"name": "other", "skip_reason": "not found"})
    with pytest.raises(AuditError, match="1 packages could not be looked up: other"):
        read_report(report)
