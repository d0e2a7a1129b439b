"""Clients that edit label sets and remember what was acknowledged, to compare with what is there later."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from service.labels.label import Label
from service.labels.store import Content, Edit

_TIMEOUT_S = 30.0
_MAX_LABELS = 150
_SETS_OF_EACH = 3
_OK = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)
_REFUSED = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True)
class Stored:
    """A label set as it must be stored: its content, and the etag that came of all edits."""

    content: Content
    etag: str


State = Stored | None
"""None: there is no such set."""


@dataclass(frozen=True)
class Change:
    """One request, and the state of the set if it is applied."""

    method: str
    path: str
    body: Any
    after: State


@dataclass
class Tally:
    """What happened to edits, of all editors together.

    Attributes:
        answers: Edits by status.
        lost: Acknowledged edits that were not there afterwards.
        torn: Sets that held neither the state before nor after an edit.
        refused_but_applied: Edits that were answered 429 or 503 and are there all the same.
        wrong: Answers of a status that is not documented for what was sent.
    """

    answers: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    torn: int = 0
    refused_but_applied: int = 0
    wrong: list[str] = field(default_factory=list)


class Editor:
    """Edits label sets of its own, one edit at a time.

    Args:
        number: Of the editor.
        tally: Is kept up to date. Only counters are shared, and the interpreter's lock guards them.
    """

    def __init__(self, number: int, tally: Tally) -> None:
        self._chance = random.Random(number)  # noqa: S311  (repeatable, not secret)
        self._tally = tally
        self._n_names = 0
        self._number = number
        self._known: dict[str, State] = {f"set-{number}-{index}": None for index in range(_SETS_OF_EACH)}
        self._refused: dict[str, list[State]] = {}
        self._open: tuple[str, State] | None = None
        # By etag: a set that has another content than its etag stands for is half written.
        self._contents: dict[str, str] = {}
        self.n_acknowledged = 0

    def work(self, port: int, stop: threading.Event, pause_s: float = 0.0) -> None:
        """Edit until told to stop.

        Raises:
            OSError, HTTPException: The last edit got no answer: it may have been applied or not.
        """
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        with contextlib.closing(connection):
            while not stop.wait(pause_s):
                self._edit(connection, self._chance.choice(list(self._known)))

    def check(self, port: int) -> None:
        """Compare every set with what was acknowledged; an edit that was cut off may be there or not."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        for name, expected in self._known.items():
            found = self._read(connection, name)
            cut_off = [self._open[1]] if self._open is not None and self._open[0] == name else []
            if found not in [expected, *cut_off]:
                if found in self._refused.get(name, []):
                    self._tally.refused_but_applied += 1
                else:
                    self._tally.lost += 1
            self._known[name] = found
        self._open = None
        self._refused.clear()
        connection.close()

    def _edit(self, connection: http.client.HTTPConnection, name: str) -> None:
        edit = self._next(name, self._known[name])
        self._open = (name, edit.after)
        if edit.after is not None:
            self._contents[edit.after.etag] = edit.after.content.etag
        status, answer = _ask(connection, edit.method, edit.path, edit.body)
        self._open = None
        self._tally.answers[status] += 1
        if status in _OK:
            self._known[name] = edit.after
            self._refused.pop(name, None)
            self.n_acknowledged += 1
        elif status in _REFUSED:
            self._refused.setdefault(name, []).append(edit.after)
        else:
            self._tally.wrong.append(f"{edit.method} {edit.path}: {status} {answer.get('code')}")

    def _read(self, connection: http.client.HTTPConnection, name: str) -> State:
        status, answer = _ask(connection, "GET", f"/v1/label-sets/{name}")
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status != HTTPStatus.OK:
            self._tally.wrong.append(f"GET {name}: {status} {answer.get('code')}")
            return None
        labels = tuple(Label(one["name"], tuple(one["prompts"])) for one in answer["labels"])
        templates = None if answer["templates"] is None else tuple(answer["templates"])
        content = Content(labels, templates)
        if self._contents.get(answer["etag"]) != content.etag or answer["n_labels"] != len(labels):
            self._tally.torn += 1
        return Stored(content, answer["etag"])

    def _next(self, name: str, before: State) -> Change:
        path, chance = f"/v1/label-sets/{name}", self._chance.random()
        if before is None or chance < 0.3 or len(before.content.labels) > _MAX_LABELS:
            return self._replace(path)
        if chance < 0.35:
            return Change("DELETE", path, None, None)
        if chance < 0.6 and before.content.labels:
            gone = self._chance.choice(before.content.labels)
            after = _edited(before, Edit(removed=(gone,)))
            return Change("DELETE", f"{path}/labels/{gone.name}", None, after)
        added = self._labels(self._chance.randint(1, 30))
        return Change(
            "POST", f"{path}/labels", {"labels": _as_json(added)}, _edited(before, Edit(added=added))
        )

    def _replace(self, path: str) -> Change:
        labels = self._labels(self._chance.randint(0, _MAX_LABELS))
        templates = self._chance.choice([None, ("a {}.", "the {}.")])
        body = {"labels": _as_json(labels), "templates": templates}
        content = Content(labels, templates)
        return Change("PUT", path, body, Stored(content, content.etag))

    def _labels(self, count: int) -> tuple[Label, ...]:
        """Names that no edit had before, some with prompts."""
        first, self._n_names = self._n_names, self._n_names + count
        numbers = range(first, first + count)
        return tuple(Label(f"name-{self._number}-{i}", ("a b",) if i % 5 == 0 else ()) for i in numbers)


def _edited(before: Stored, edit: Edit) -> Stored:
    labels = edit.applied(before.content.labels)
    return Stored(replace(before.content, labels=labels), edit.etag(before.etag))


def put_large_set(port: int, n_labels: int) -> int:
    """Put the label set `large`, of 260 bytes a label; returns the status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    with contextlib.closing(connection):
        labels = [f"{number} ".ljust(250, "x") for number in range(n_labels)]
        return _ask(connection, "PUT", "/v1/label-sets/large", {"labels": labels})[0]


def _as_json(labels: tuple[Label, ...]) -> list[dict[str, Any]]:
    return [{"name": label.name, "prompts": label.prompts} for label in labels]


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    content = response.read()
    return response.status, json.loads(content) if content else {}
