"""`make audit`: known advisories of the packages in constraints.txt, asked of OSV or looked up in a copy.

The copy is what OSV publishes for the ecosystem PyPI (all.zip), or a directory of its JSON files
(https://google.github.io/osv.dev/data). It serves where OSV can't be reached, and is compared with every pin,
also those for other systems and versions of Python, which pip-audit leaves out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_ECOSYSTEM = "PyPI"


class AuditError(Exception):
    """No audit took place; says why, and what to do."""


@dataclass(frozen=True, order=True)
class Finding:
    """A pinned package that an advisory is about."""

    package: str
    version: str
    advisory: str
    fixed: tuple[str, ...]
    """versions without the fault; none are known if it is empty."""

    def __str__(self) -> str:
        """One line of the report."""
        fixed = ", ".join(self.fixed) or "no version"
        return f"{self.package} {self.version}: {self.advisory}, fixed in {fixed}"


def audit(constraints: Path, advisories: Path | None) -> tuple[list[Finding], int]:
    """Findings in order, and how many packages were looked up.

    Raises:
        AuditError: They could not be.
    """
    if advisories is None:
        return _ask(constraints)
    pins = read_pins(constraints)
    return sorted(set(find(pins, read_advisories(advisories)))), len(pins)


def read_pins(constraints: Path) -> list[tuple[str, Version]]:
    """Names and versions of a file of pins, whatever system or version of Python they are for."""
    lines = constraints.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pins = []
    for line in lines:
        text = line.partition(" --hash")[0].strip()
        if text and not text.startswith("#"):
            one = Requirement(text)
            (pin,) = one.specifier
            pins.append((str(canonicalize_name(one.name)), Version(pin.version)))
    return pins


def read_advisories(copy: Path) -> Iterator[dict[str, Any]]:
    """The advisories in a copy that are about Python packages and were not withdrawn.

    Raises:
        AuditError: There are none, or it can't be read.
    """
    n_read = 0
    try:
        for text in _texts(copy):
            advisory = json.loads(text)
            packages = [affected.get("package", {}) for affected in advisory.get("affected", [])]
            if any(package.get("ecosystem") == _ECOSYSTEM for package in packages):
                n_read += 1
                if "withdrawn" not in advisory:
                    yield advisory
    except (OSError, zipfile.BadZipFile, ValueError, AttributeError) as error:
        raise AuditError(f"{copy} is not a readable copy of OSV's advisories") from error
    if not n_read:
        raise AuditError(f"{copy} holds no advisories of {_ECOSYSTEM}; take all.zip of that ecosystem")


def _texts(copy: Path) -> Iterator[bytes]:
    if copy.is_dir():
        yield from (path.read_bytes() for path in sorted(copy.glob("*.json")))
        return
    with zipfile.ZipFile(copy) as archive:
        yield from (archive.read(name) for name in archive.namelist() if name.endswith(".json"))


def find(pins: Iterable[tuple[str, Version]], advisories: Iterable[dict[str, Any]]) -> Iterator[Finding]:
    """Pins that advisories are about."""
    versions: dict[str, list[Version]] = defaultdict(list)
    for name, version in pins:
        versions[name].append(version)
    for advisory in advisories:
        for affected in advisory["affected"]:
            package = affected.get("package", {})
            if package.get("ecosystem") != _ECOSYSTEM:
                continue
            name = str(canonicalize_name(package["name"]))
            for version in versions.get(name, []):
                if is_affected(affected, version):
                    yield Finding(name, str(version), advisory["id"], _fixed(affected))


def is_affected(affected: dict[str, Any], version: Version) -> bool:
    """Whether a version is listed, or in a range (https://ossf.github.io/osv-schema, "Evaluation")."""
    listed = map(_version, affected.get("versions", []))
    return version in listed or any(_is_in_range(events, version) for events in _ranges(affected))


def _ranges(affected: dict[str, Any]) -> list[list[dict[str, str]]]:
    """Events of each range of versions; ranges of commits say nothing of a package."""
    return [one["events"] for one in affected.get("ranges", []) if one["type"] != "GIT"]


def _is_in_range(events: list[dict[str, str]], version: Version) -> bool:
    """Events switch the fault on and off, in the order of their versions."""
    known = [(_version(text), kind) for event in events for kind, text in event.items()]
    ordered = sorted(((at, kind) for at, kind in known if at is not None), key=lambda event: event[0])
    # A start that can't be read is taken for the very beginning: better a finding too many than one missed.
    has_fault = (None, "introduced") in known
    for at, kind in ordered:
        if kind == "introduced" and version >= at:
            has_fault = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            has_fault = False
    return has_fault


def _version(text: str) -> Version | None:
    """A version; None if packages of Python can't have it."""
    try:
        return Version("0.dev0" if text == "0" else text)  # OSV's 0 comes before all others
    except InvalidVersion:
        return None


def _fixed(affected: dict[str, Any]) -> tuple[str, ...]:
    events = [event for events in _ranges(affected) for event in events]
    return tuple(sorted({event["fixed"] for event in events if "fixed" in event}))


def _ask(constraints: Path) -> tuple[list[Finding], int]:
    """Ask OSV through pip-audit."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["--requirement", constraints, "--no-deps", "--disable-pip", "--vulnerability-service", "osv"]
        words += ["--format", "json", "--output", report, "--progress-spinner", "off"]
        # Its exit code is 1 for advisories and for any failure; only a report shows that all were looked up.
        done = subprocess.run(  # noqa: S603  (our own words)
            [sys.executable, "-m", "pip_audit", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise AuditError(
                "pip-audit could not look the packages up; is api.osv.dev reachable? Without it, use a copy "
                f"of OSV's advisories: make audit ADVISORIES=all.zip. Last line of pip-audit: {last[:300]}"
            )
        return read_report(json.loads(report.read_text(encoding="utf-8")))


def read_report(report: dict[str, Any]) -> tuple[list[Finding], int]:
    """Findings of a report of pip-audit.

    Raises:
        AuditError: Packages were left out.
    """
    packages = report["dependencies"]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if skipped:
        raise AuditError(f"{len(skipped)} packages could not be looked up: {', '.join(skipped[:5])} ...")
    found = {
        Finding(package["name"], package["version"], vuln["id"], tuple(vuln["fix_versions"]))
        for package in packages
        for vuln in package["vulns"]
    }
    return sorted(found), len(packages)
