"""Requests made from the OpenAPI document, valid ones and wrong ones: every answer is what the document says.

schemathesis makes the requests and has the checks. All of them are on, and none may fail.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, Response
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.hooks import unregister
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.specs.openapi.formats import unregister_string_format

from service.api.app import create_app
from service.labels.label import MAX_PLACEHOLDERS, PLACEHOLDER, label_key, make_label
from service.labels.store import Content, Precondition
from service.settings import Settings
from tests.service.api.guard.guarded import new_key
from tests.toy import CLASSES, write_clip, write_toy_bundle

AnyCase = Case[Any]
LABEL_SET = "animals"
KEY = "the-key-of-this-test-and-of-no-other"
PEERS = ("one", "other")
NEEDS_TWO_USERS = "object_level_authorization"
CONFIG = {
    "seed": 20_261_126,
    "workers": 1,
    "auth": {"openapi": {"bearer": {"bearer": KEY}}},
    "continue-on-failure": True,
    "generation": {
        "mode": "all",
        "max-examples": 12,
        "deterministic": True,
        "database": "none",
        "no-shrink": True,
        "with-security-parameters": False,  # the key alone decides, which `ignored_auth` checks
    },
    "checks": {"max_response_time": 20.0},
    "phases": {"stateful": {"max-steps": 6, "generation": {"max-examples": 8}}},
    "operations": [{"include-path": "/v1/classify", "generation": {"max-examples": 40}}],
}


@pytest.fixture
def schema(tmp_path: Path) -> Iterator[schemathesis.BaseSchema]:
    """The document of a running service, asked with a key that may do everything."""
    with _described(tmp_path, CONFIG) as document:
        yield document


@pytest.fixture
def jobs_of_two(tmp_path: Path) -> Iterator[schemathesis.BaseSchema]:
    """The addresses of jobs, asked by turns with two keys that may classify."""
    (tmp_path / "data").mkdir()
    headers = {name: new_key(tmp_path, "classify") for name in PEERS}
    users = [
        {"name": name, "fixedHeaders": [{"name": header, "value": key} for header, key in one.items()]}
        for name, one in headers.items()
    ]
    (tmp_path / "users.json").write_text(json.dumps({"auth": users}))
    auth = {"wfc": {"path": str(tmp_path / "users.json"), "peers": list(PEERS)}}
    with _described(tmp_path, CONFIG | {"auth": auth}) as document:
        yield document.include(path_regex="^/v1/jobs")


@contextmanager
def _described(folder: Path, config: dict[str, Any]) -> Iterator[schemathesis.BaseSchema]:
    """The document of a running service. What is sent as a clip is one, unless it should be wrong."""
    clips = [
        write_clip(folder / "both.mp4", "red", "low"),
        write_clip(folder / "picture.mp4", "green", None, seconds=2.5),
        write_clip(folder / "sound.mp4", None, "high"),
    ]
    schemathesis.openapi.format("binary", st.sampled_from([clip.read_bytes() for clip in clips]))
    app = create_app(
        Settings(
            bundles=(write_toy_bundle(folder / "toy", seen=CLASSES[:4]),),
            data_dir=folder / "data",
            max_upload_bytes=2_000_000,
            max_json_bytes=200_000,
            max_labels=1_000,
            api_key=KEY,
            decode_workers=1,
        )
    )
    described = _name_what_is_there(copy.deepcopy(app.openapi()), [clip.read_bytes() for clip in clips])
    document = schemathesis.openapi.from_dict(described, config=SchemathesisConfig.from_dict(config))
    document.app = app
    content = Content(tuple(make_label(name) for name in CLASSES))
    app.state.context.store.put(LABEL_SET, content, Precondition())
    document.hook("filter_failure")(_is_our_fault)
    schemathesis.hook("before_call")(_send_nothing_twice)
    try:
        yield document
    finally:
        unregister(_send_nothing_twice)
        shutdown_lifespans()
        unregister_string_format("binary")


def test_every_answer_is_as_documented(schema: schemathesis.BaseSchema) -> None:
    """Examples, boundary values, random values and sequences of linked requests, at every address."""
    run = _Run()
    for event in from_schema(schema).execute():
        run.add(event)
    assert run.failures == []
    assert run.phases == {"EXAMPLES", "COVERAGE", "FUZZING", "STATEFUL_TESTING"}
    assert run.checks >= set(CHECKS.get_all_names()) - {NEEDS_TWO_USERS}
    assert run.answers["POST /v1/classify", 200] >= 10
    assert run.answers["POST /v1/jobs", 202] >= 5


def test_no_key_sees_the_jobs_of_another(jobs_of_two: schemathesis.BaseSchema) -> None:
    """What one key has made is asked for with the other."""
    run = _Run()
    for event in from_schema(jobs_of_two).execute():
        run.add(event)
    assert run.failures == []
    assert NEEDS_TWO_USERS in run.checks
    assert run.answers["GET /v1/jobs/{job_id}", 200] >= 1


class _Run:
    """What happened in a run of all requests."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.phases: set[str] = set()
        self.checks: set[str] = set()
        self.operations: set[str] = set()
        self.answers: Counter[tuple[str, int]] = Counter()

    def add(self, event: events.EngineEvent) -> None:
        """Take note of one event."""
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            self.failures.append(f"{event.label}: {event.info.title}: {event.info.message}")
        if isinstance(event, events.ScenarioFinished):
            self.phases.add(event.phase.name)
            self._add_scenario(event.recorder)

    def _add_scenario(self, recorder: ScenarioRecorder) -> None:
        for key, interaction in recorder.interactions.items():
            operation = recorder.cases[key].value.operation.label
            self.operations.add(operation)
            if interaction.response is not None:
                self.answers[operation, interaction.response.status_code] += 1
        for check in (check for checks in recorder.checks.values() for check in checks):
            self.checks.add(check.name)
            if (found := check.failure_info) is not None:
                self.failures.append(f"{check.name}: {found.failure.message}\n{found.code_sample[:2000]}")


def _name_what_is_there(document: dict[str, Any], clips: Sequence[bytes]) -> dict[str, Any]:
    """Let requests name the stored label set and the loaded bundle, else most would be answered 404.

    Clips come as files: this service, like any that is not set up for it, fetches none from URLs.
    """
    schemas, query = (
        document["components"]["schemas"],
        document["paths"]["/v1/classify"]["post"]["parameters"],
    )
    forms = [schemas[name]["properties"] for name in ("ClassifyForm", "ClassifyJson", "JobForm")]
    forms.append({one["name"]: one["schema"] for one in query})
    for form in forms:
        form["label_set"]["enum"] = [LABEL_SET]
        form["bundle"]["enum"] = ["toy"]
        del form["url"]
    query[:] = [one for one in query if one["name"] != "url"]
    in_base64 = {"enum": [base64.b64encode(clip).decode() for clip in clips]}
    forms[1]["file"] = schemas["EmbeddedClip"]["properties"]["file"] = in_base64
    for name in ("EmbeddingsBody", "EmbeddingsForm"):
        schemas[name]["properties"]["model"]["enum"] = ["toy"]
        del schemas[name]["properties"]["dimensions"]  # the one number that is accepted depends on the bundle
    del schemas["EmbeddingsForm"]["properties"]["url"]
    schemas["EmbeddingsForm"]["oneOf"] = [{"required": ["file"]}, {"required": ["files"]}]
    for name in ("ClassifyForm", "JobForm"):
        schemas[name]["allOf"][0] = {"oneOf": [{"required": ["file"]}, {"required": ["files"]}]}
    for webhook in ("webhook", "webhook_secret"):  # not allowed here either
        del schemas["JobForm"]["properties"][webhook]
    schemas["ClassifyJson"]["allOf"][0] = {"required": ["file"]}
    return document


_numbers = itertools.count()


def _send_nothing_twice(_: HookContext, case: AnyCase, __: dict[str, Any]) -> None:
    """Fields may be in the query or in the body; the document can't say that they must not be in both."""
    parts = case.meta.components if case.meta is not None else {}
    query = next((info for part, info in parts.items() if part.value == "query"), None)
    if isinstance(case.body, dict) and query is not None and query.mode.is_positive:
        case.query = {}
    for name in case.headers or {}:
        # The same key is the same job, whatever else is sent.
        if name.lower() == "idempotency-key" and re.fullmatch("[!-~]{1,240}", case.headers[name]):
            case.headers[name] += f"-{next(_numbers)}"


def _is_our_fault(_: HookContext, failure: Failure, case: AnyCase, response: Response) -> bool:
    """Whether a failure counts: all do, but for those that have one of the reasons below."""
    if isinstance(failure, AcceptedNegativeData):
        return not _is_valid_as_a_form(case)
    if not isinstance(failure, RejectedPositiveData):
        return True
    reason = _BEYOND_SCHEMA.get(response.json()["code"])
    return reason is None or not reason(case)


def _body_of(case: AnyCase) -> dict[str, Any]:
    """Fields of the body, and of the query, which may hold the same."""
    return {**(case.query or {}), **(case.body if isinstance(case.body, dict) else {})}


def _is_valid_as_a_form(case: AnyCase) -> bool:
    """In a form or a query a number is sent as text, which is a name, and an empty list is not sent at all.

    In JSON a value may be the text that it is in a form, and null is the same as nothing.
    """
    if case.path == "/v1/classify" and case.media_type == "application/json":
        sent = _body_of(case)
        as_texts = [sent.get(name) for name in ("labels", "templates", "top_k")]
        return None in sent.values() or [] in as_texts or any(isinstance(value, str) for value in as_texts)
    labels: Any = _body_of(case).get("labels", [])
    are_texts = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    is_text = case.media_type == "multipart/form-data" or "labels" in (case.query or {})
    return is_text and (not labels or not are_texts)


def _labels_of(case: AnyCase) -> list[dict[str, Any]]:
    sent: list[Any] = _body_of(case).get("labels", [])
    return [{"name": label, "prompts": []} if isinstance(label, str) else label for label in sent]


def _texts_of(case: AnyCase) -> list[str]:
    labels = _labels_of(case)
    prompts = [text for label in labels for text in label.get("prompts", [])]
    sent = _body_of(case)
    inputs = sent.get("input", []) if isinstance(sent.get("input"), list) else [sent.get("input")]
    names = [*(label["name"] for label in labels), *(one for one in inputs if isinstance(one, str))]
    return [*names, *prompts, *(sent.get("templates") or [])]


def _has_unusual_text(case: AnyCase) -> bool:
    """No pattern that every reader of the document understands names unassigned or invisible characters."""
    texts = _texts_of(case)
    unassigned = any(unicodedata.category(character) in {"Cn", "Cs"} for text in texts for character in text)
    invisible = any(not any(c.isprintable() and not c.isspace() for c in text) for text in texts)
    return unassigned or invisible or any(text.count(PLACEHOLDER) > MAX_PLACEHOLDERS for text in texts)


def _has_same_names(case: AnyCase) -> bool:
    """Case, spacing and Unicode form are ignored; `uniqueItems` ignores nothing."""
    names = [label_key(label["name"]) for label in _labels_of(case)]
    return len(set(names)) < len(names)


def _has_one_list_like_name(case: AnyCase) -> bool:
    """In a form, one field `a,b` or `[a` may be a list; a pattern would forbid such names in longer lists."""
    names = [label["name"] for label in _labels_of(case)]
    return len(names) == 1 and ("," in names[0] or names[0].strip().startswith("["))


def _is_invalid_after_all(case: AnyCase) -> bool:
    """Boundary values are put together property by property, past `oneOf` and past patterns with quotes."""
    headers = {name.lower(): value for name, value in (case.headers or {}).items()}
    sent, body = _body_of(case), case.body if isinstance(case.body, dict) else {}
    if set(case.query or {}) & set(body) or (sent.get("return", "json") != "json" and "files" in sent):
        return True
    return (
        sent.keys() >= {"labels", "label_set"}
        or sent.keys() >= {"file", "files"}
        or (sent.get("guarantee") is not None and sent.get("calibration", "auto") != "auto")
        or headers.get("if-match") == ""
        or headers.get("if-none-match") == ""
    )


def _is_stale(_: AnyCase) -> bool:
    """Whether an ETag is the stored one is no property of the request."""
    return True


_BEYOND_SCHEMA: dict[str, Callable[[AnyCase], bool]] = {
    "invalid_label": lambda case: _has_unusual_text(case) or _has_one_list_like_name(case),
    "invalid_template": _has_unusual_text,
    "duplicate_labels": _has_same_names,
    "ambiguous_labels": _has_one_list_like_name,
    "invalid_option": _is_invalid_after_all,
    "precondition_failed": _is_stale,
    "no_labels": lambda case: not _body_of(case).keys() & {"labels", "label_set"},
}
"""Codes with which valid data may be refused, and whether a case has what JSON Schema can't say."""
