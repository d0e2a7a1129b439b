"""constraints.txt pins all that can be installed, by hash, and says nothing of where it comes from."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from supply_chain.audit import read_pins
from supply_chain.sbom import read_hashes

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {"": PROJECT["project"]["dependencies"], **PROJECT["project"]["optional-dependencies"]}


def _needed(requirements: list[str]) -> set[str]:
    """Names that requirements lead to, as far as their packages are installed here."""
    names: set[str] = set()
    todo = [(Requirement(text), "") for text in requirements]
    done: set[tuple[str, str]] = set()
    while todo:
        one, _ = todo.pop()
        name = str(canonicalize_name(one.name))
        names.add(name)
        for extra in ["", *one.extras]:
            if (name, extra) in done:
                continue
            done.add((name, extra))
            try:
                requires = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            more = [Requirement(text) for text in requires]
            todo += [
                (req, extra) for req in more if req.marker is None or req.marker.evaluate({"extra": extra})
            ]
    return names


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_dependency_of_every_extra_is_pinned(extra: str) -> None:
    """Also those that dependencies bring along."""
    pinned = {name for name, _ in read_pins(CONSTRAINTS)}
    assert len(EXTRAS[extra]) >= 1
    assert _needed(EXTRAS[extra]) - pinned == set()


def test_every_pin_has_a_hash() -> None:
    """SHA-256, at least one for each."""
    hashes = read_hashes(CONSTRAINTS)
    assert {(name, str(version)) for name, version in read_pins(CONSTRAINTS)} == set(hashes)
    assert all(hashes.values())


def test_nothing_but_pins_and_hashes() -> None:
    """No index, no address, no file: every installer takes packages from its own registry."""
    pin = re.compile(r"[a-z0-9-]+==[\w.!+]+( ; [^\\]+)? \\")
    sha256 = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    for line in CONSTRAINTS.read_text().splitlines():
        assert pin.fullmatch(line) or sha256.fullmatch(line), line
