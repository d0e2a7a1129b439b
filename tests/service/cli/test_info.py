"""`ahse info`: what is here, and what a service runs."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest

from service import __version__
from service.client import Limits
from tests.conftest import Ahse


def test_what_is_installed_here(ahse: Ahse, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without loading a model; a bundle that can't be read says why."""
    monkeypatch.setenv("AHSE_BUNDLES", f"{toy_bundle},/nowhere")
    code, out, _ = ahse("info")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"version   {__version__}"
    (toy,) = [line for line in lines if line.startswith("bundle    toy ")]
    assert toy
    assert "bundle    /nowhere: there is no such folder" in out
    assert "devices   CPUExecutionProvider" in lines
    assert "limit     max_labels 10000" in lines
    facts = json.loads(ahse("info", "--json")[1])
    assert facts["bundles"][0]["directory"] == str(toy_bundle)
    assert facts["limits"]["max_duration_s"] == 600
    assert list(facts["limits"]) == [one.name for one in dataclasses.fields(Limits)]


def test_what_a_service_runs(ahse: Ahse, toy_service: str) -> None:
    """The same facts, and whether it is ready."""
    code, out, _ = ahse("info", "--url", toy_service)
    assert code == 0
    assert "ready     yes" in out.splitlines()
    assert "devices   CPUExecutionProvider" in out.splitlines()
    facts = json.loads(ahse("info", "--url", toy_service, "--json")[1])
    assert (facts["version"], facts["bundles"][0]["name"]) == (__version__, "toy")


def test_a_service_that_is_not_there(ahse: Ahse, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to look at."""
    monkeypatch.setattr("service.client.tries._FIRST_WAIT_S", 0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        code, out, err = ahse("info", "--url", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "can't be reached (5 tries). Check the address, and that it runs. [unreachable]" in err


def test_a_machine_without_onnxruntime(ahse: Ahse, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only services are asked."""

    def absent() -> list[str]:
        raise ModuleNotFoundError("onnxruntime")

    monkeypatch.setattr("service.runtime.graph.available_providers", absent)
    assert "none: onnxruntime is not installed" in ahse("info")[1]
