"""The longer attacks would notice what they look for: checked on services that misbehave on purpose."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.servers import Server
from service.labels.label import Label
from service.labels.store import Content, Edit
from tests.attack import cheap_requests, editors, fuzz
from tests.attack.editors import Editor, Tally
from tests.attack.figures import write_figures
from tests.attack.soak import Soak
from tests.attack.soak_clients import Tally as SoakTally
from tests.attack.soak_clients import Target

ROOT = Path(__file__).resolve().parents[2]
Answer = tuple[int, dict[str, Any]]


class _Store:
    """Label sets by name, in the place of a service.

    Args:
        spoil: Is asked before each edit: `lose` acknowledges without storing it, `refuse` stores it without
            acknowledging; None does what is asked.
    """

    def __init__(self, spoil: Callable[[], str | None]) -> None:
        self._spoil = spoil
        self.sets: dict[str, dict[str, Any]] = {}

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Answer:
        """What the editors send over HTTP otherwise."""
        del connection
        name, _, label = path.removeprefix("/v1/label-sets/").partition("/labels")
        if method == "GET":
            return (200, self.sets[name]) if name in self.sets else (404, {"code": "unknown_label_set"})
        how = self._spoil()
        if how != "lose":
            self._store(name, method, label.removeprefix("/"), body)
        return (503, {"code": "store_unavailable"}) if how == "refuse" else (200, {})

    def _store(self, name: str, method: str, label: str, body: Any) -> None:
        if method == "DELETE" and not label:
            self.sets.pop(name, None)
            return
        if method == "PUT":
            content = Content(_read(body["labels"]), body["templates"] and tuple(body["templates"]))
            etag = content.etag
        else:
            before = self.sets[name]
            edit = Edit(removed=(Label(label),)) if label else Edit(added=_read(body["labels"]))
            etag = edit.etag(before["etag"])
            content = Content(edit.applied(_read(before["labels"])), before["templates"])
        labels = [{"name": one.name, "prompts": list(one.prompts)} for one in content.labels]
        whole = {"labels": labels, "templates": content.templates, "etag": etag, "n_labels": len(labels)}
        self.sets[name] = json.loads(json.dumps(whole))


def _read(labels: list[dict[str, Any]]) -> tuple[Label, ...]:
    return tuple(Label(one["name"], tuple(one["prompts"])) for one in labels)


def _edited(
    monkeypatch: pytest.MonkeyPatch, hows: list[str | None], damage: Callable[[_Store], None] = lambda _: None
) -> Tally:
    """What an editor finds after so many edits, spoiled as listed."""
    stop, left = threading.Event(), list(hows)

    def spoil() -> str | None:
        how = left.pop(0)
        if not left:
            stop.set()
        return how

    store, tally = _Store(spoil), Tally()
    monkeypatch.setattr(editors, "_ask", store.ask)
    editor = Editor(0, tally)
    editor.work(0, stop)
    damage(store)
    editor.check(0)
    return tally


def test_a_good_store_has_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the editor expects is what the edits do."""
    tally = _edited(monkeypatch, [None] * 200)
    assert (tally.lost, tally.torn, tally.refused_but_applied, tally.wrong) == (0, 0, 0, [])
    assert tally.answers == {200: 200}


def test_a_lost_edit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one was acknowledged and is not there."""
    assert _edited(monkeypatch, [None] * 20 + ["lose"]).lost == 1


def test_a_refused_edit_that_is_there_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was told 503 will send it again."""
    tally = _edited(monkeypatch, [None] * 20 + ["refuse"])
    assert (tally.lost, tally.refused_but_applied) == (0, 1)


def test_a_half_written_set_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its labels do not fit its ETag."""

    def tear(store: _Store) -> None:
        torn = max(store.sets.values(), key=lambda one: len(one["labels"]))
        torn["labels"].pop()

    tally = _edited(monkeypatch, [None] * 20, tear)
    assert (tally.lost, tally.torn) == (1, 1)


def test_an_editor_without_an_answer_is_a_fault_of_the_mixed_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, and the load would go on without it."""

    def no_answer(*_: object) -> Answer:
        raise TimeoutError

    monkeypatch.setattr(editors, "_ask", no_answer)
    target = Target(0, os.getpid(), "toy", 1.0, 1.0, [], SoakTally(), threading.Event())
    soak = Soak(Server(0, os.getpid(), 0.0), target)
    soak._edit(soak._editors[0])
    assert target.tally.faults == ["edit: no answer: TimeoutError()"]


def test_figures_of_one_part_leave_the_others(tmp_path: Path) -> None:
    """Each command replaces its own."""
    write_figures(tmp_path, "crash", "crash command", {"edits": 4615})
    write_figures(
        tmp_path, "fuzz", "fuzz command", {"media": 1, "Outcomes": [{"outcome": "clip", "files": 2}]}
    )
    write_figures(tmp_path, "fuzz", "fuzz command", {"media": 10_000, "Outcomes": []})
    text = (tmp_path / "attacks.md").read_text()
    assert "- edits: 4,615" in text
    assert "- media: 10,000" in text
    assert "| clip | 2 |" not in text
    assert set(json.loads((tmp_path / "attacks.json").read_text())) == {"crash", "fuzz"}


@pytest.mark.parametrize(
    ("status", "within_s", "pid", "said"),
    [
        (200, 60.0, os.getpid(), None),
        (503, 60.0, os.getpid(), r"an attack: clips: \d+ x 503"),
        (0, 60.0, os.getpid(), r"an attack: clips: \d+ x connection closed"),
        (200, -1.0, os.getpid(), r"an attack: clips: slowest .* s, more than -1 s"),
        (200, 60.0, 2**30, "an attack: the service died"),
    ],
)
def test_cheap_requests_that_harm_others_end_with_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, within_s: float, pid: int, said: str | None
) -> None:
    """After all figures are written."""

    def attack(_: Server) -> cheap_requests._Outcome:
        with cheap_requests._Others("clips", lambda: status, within_s) as others:
            return cheap_requests._Outcome(others, [408])

    @contextmanager
    def running(*_: object) -> Iterator[Server]:
        yield Server(0, pid, 0.0)

    monkeypatch.setattr(cheap_requests, "ATTACKS", {"an attack": attack})
    monkeypatch.setattr(cheap_requests, "running", running)
    monkeypatch.setattr(cheap_requests, "_classify", lambda: 200)
    monkeypatch.setattr("sys.argv", ["cheap_requests", "--out", str(tmp_path)])
    if said is None:
        cheap_requests.main()
    else:
        with pytest.raises(SystemExit, match=f"^{said}$"):
            cheap_requests.main()
    assert "| an attack | clips: " in (tmp_path / "attacks.md").read_text()


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_fuzzing_installs_what_it_needs(tmp_path: Path) -> None:
    """The environment of the tests does not have it."""
    words = ["make", "--dry-run", "fuzz", f"DEV_ENV={tmp_path}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603
    install, attack = done.stdout.find("'.[fuzz]'"), done.stdout.find("-m tests.attack.fuzz")
    assert 0 <= install < attack


def _fuzzed(monkeypatch: pytest.MonkeyPatch, folder: Path, said: str) -> dict[str, Any]:
    """The row of a parser whose process ended with an error after it said that."""
    ended = subprocess.CompletedProcess[str]([], 1, "", said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    monkeypatch.setattr(fuzz, "SAVED", folder)
    return fuzz._attack_parser("wire", 1, 1)


def test_a_parser_that_could_not_start_has_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without atheris nothing was tried."""
    with pytest.raises(SystemExit, match="wire parser could not start"):
        _fuzzed(monkeypatch, tmp_path, "ModuleNotFoundError: No module named 'atheris'")


def test_a_parser_that_ended_with_an_error_has_a_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where its input was saved before."""
    row = _fuzzed(monkeypatch, tmp_path, "stat::number_of_executed_units: 5")
    assert (row["executions"], row["faults"]) == (5, 1)
