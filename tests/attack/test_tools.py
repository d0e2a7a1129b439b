"""The longer attacks would notice what they look for: checked on a store that misbehaves on purpose."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.labels.label import Label
from service.labels.store import Content, Edit
from tests.attack import editors
from tests.attack.editors import Editor, Tally
from tests.attack.figures import write_figures

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
            edit = Edit(removed=(label,)) if label else Edit(added=_read(body["labels"]))
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
