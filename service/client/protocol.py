"""The request of each address, and how its answer is read. No input or output happens here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2

from service.client import values
from service.client.answers import Answer
from service.client.errors import InvalidArgumentError, ServiceError
from service.client.upload import Upload

Value = TypeVar("Value")


@dataclass(frozen=True)
class Call(Generic[Value]):
    """One request, and how its answer is read.

    Attributes:
        method: HTTP method.
        path: Relative to the service's URL, quoted.
        read: The value of an answer without an error.
        params: Of the query.
        headers: Further ones.
        body: Sent as JSON.
        form: Sent as a multipart form, with the clips.
        part: Name of the form's parts with clips.
        is_safe: May be sent again when nobody knows whether it was carried out.
        retry: False: the first answer counts, whatever it is.
    """

    method: str
    path: str
    read: Callable[[httpx2.Response], Value]
    params: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] | None = None
    body: Any = None
    form: Mapping[str, str] | None = None
    part: str = "file"
    is_safe: bool = True
    retry: bool = True

    def arguments(self, uploads: Sequence[Upload]) -> dict[str, Any]:
        """Keyword arguments for httpx2's `request`.

        Args:
            uploads: The clips, if it has any.
        """
        parts: list[tuple[str, tuple[str | None, Any]]] = [
            (name, (None, value)) for name, value in (self.form or {}).items()
        ]
        parts += [(self.part, (upload.name, upload)) for upload in uploads]
        return {
            "method": self.method,
            "url": self.path,
            "params": self.params,
            "headers": self.headers,
            "json": self.body,
            "files": parts or None,
        }


def check_base_url(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        InvalidArgumentError: Not the address of a service.
    """
    try:
        parts = urlsplit(url)
        has_host, _ = bool(parts.hostname), parts.port
    except ValueError:
        parts, has_host = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not has_host or re.search(r"\s", url):
        raise InvalidArgumentError(
            f"{url[:200]!r} is no address of a service; write it as http://127.0.0.1:8000 or https://HOST"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidArgumentError("the URL holds a user or password; give the API key as the key instead")
    if parts.query or parts.fragment:
        raise InvalidArgumentError("the URL of a service ends before ? and #")
    return url.rstrip("/")


def headers(key: str | None, version: str) -> dict[str, str]:
    """Headers of every request.

    Args:
        key: API key; None or empty: none.
        version: Of this package.

    Raises:
        InvalidArgumentError: No API key looks like this.
    """
    always = {"User-Agent": f"ahse-client/{version}", "Accept": "application/json"}
    if not key:
        return always
    if not re.fullmatch(r"[!-~]+", key):
        raise InvalidArgumentError("the API key contains spaces or characters that no key has; copy it again")
    return always | {"Authorization": f"Bearer {key}"}


class Question(TypedDict, total=False):
    """What is asked of a clip. All of it may be left out or None, except that there must be names.

    Attributes:
        labels: Candidate names.
        label_set: Name of a stored label set, instead of labels.
        url: URL of the clip, instead of the clip, where the service allows it.
        bundle: Name of a loaded bundle; else the default one.
        templates: Prompt templates instead of the bundle's; `{}` stands for the name.
        top_k: How many predictions; else all.
        calibration: `auto`, `off` or a number.
        guarantee: How often the names in `Answer.guarantee` must hold the right one, 0.5 to 0.99.
        segment_s: Rank for segments of this length too, in seconds or `auto`.
        frames: `exact` or `key`; else as the service is set.
        audio_windows: How many pieces of a longer sound are listened to; else as many as a minute has.
    """

    labels: Sequence[str] | None
    label_set: str | None
    url: str | None
    bundle: str | None
    templates: Sequence[str] | None
    top_k: int | None
    calibration: str | float | None
    guarantee: float | None
    segment_s: str | float | None
    frames: str | None
    audio_windows: int | None


def classify(question: Question) -> Call[Answer]:
    """POST /v1/classify."""
    return Call("POST", "/v1/classify", lambda answer: Answer.read(answer.json()), form=_form(question))


def _form(question: Question) -> dict[str, str]:
    """Lists go as JSON, so a name may contain commas or begin with a bracket."""
    if unknown := question.keys() - Question.__annotations__.keys():
        raise TypeError(f"there is no argument {sorted(unknown)[0]!r}")
    lists = {
        "labels": _json_list("labels", question.get("labels")),
        "templates": _json_list("templates", question.get("templates")),
    }
    return {name: str(value) for name, value in {**question, **lists}.items() if value is not None}


def _json_list(name: str, given: Sequence[str] | None) -> str | None:
    if isinstance(given, str):
        raise InvalidArgumentError(f"{name} is one text; give a list: [{given[:40]!r}]")
    return None if given is None else json.dumps(list(given), ensure_ascii=False)


def info() -> Call[values.Info]:
    """GET /v1/info."""
    return Call("GET", "/v1/info", lambda answer: values.Info.read(answer.json()))


def models() -> Call[list[values.Model]]:
    """GET /v1/models."""
    return Call("GET", "/v1/models", lambda answer: list(map(values.Model.read, answer.json()["data"])))


def model(name: str) -> Call[values.Model]:
    """GET /v1/models/{name}."""
    return Call("GET", f"/v1/models/{_quoted(name)}", lambda answer: values.Model.read(answer.json()))


def health() -> Call[values.Health]:
    """GET /v2/health/ready; see `not_ready` for the other answer."""

    def read(answer: httpx2.Response) -> values.Health:
        return values.Health(ready=answer.json()["ready"], detail="")

    return Call("GET", "/v2/health/ready", read, retry=False)


def not_ready(error: ServiceError) -> values.Health:
    """The health of a service that answered that it is not ready; any other error is raised again."""
    if error.code != "not_ready":
        raise error
    return values.Health(ready=False, detail=error.detail)


def label_set_page(cursor: str | None) -> Call[tuple[list[values.LabelSetSummary], str | None]]:
    """GET /v1/label-sets: a page, and the cursor of the next one."""

    def read(answer: httpx2.Response) -> tuple[list[values.LabelSetSummary], str | None]:
        page = answer.json()
        return list(map(values.LabelSetSummary.read, page["label_sets"])), page["next_cursor"]

    return Call("GET", "/v1/label-sets", read, params=None if cursor is None else {"cursor": cursor})


def get_label_set(name: str) -> Call[values.LabelSet]:
    """GET /v1/label-sets/{name}."""
    return Call("GET", _set(name), _label_set)


def get_label_set_if_changed(name: str, etag: str) -> Call[values.LabelSet | None]:
    """GET /v1/label-sets/{name}; None: the set still has the etag."""

    def read(answer: httpx2.Response) -> values.LabelSet | None:
        return None if answer.status_code == HTTPStatus.NOT_MODIFIED else _label_set(answer)

    return Call("GET", _set(name), read, headers=_conditions(none=etag))


def put_label_set(
    name: str,
    labels: Sequence[str | values.Label],
    templates: Sequence[str] | None,
    guarantee: float | None,
    if_match: str | None,
    *,
    is_new: bool,
    warm: bool,
) -> Call[values.LabelSetSummary]:
    """PUT /v1/label-sets/{name}."""
    body = {
        "labels": _labels(labels),
        "templates": None if templates is None else list(templates),
        "guarantee": guarantee,
    }
    conditions = _conditions(match=if_match, none="*" if is_new else None)
    return _change("PUT", _set(name), _summary, conditions, body, warm=warm)


def delete_label_set(name: str, if_match: str | None) -> Call[None]:
    """DELETE /v1/label-sets/{name}."""
    return _change("DELETE", _set(name), lambda _: None, _conditions(match=if_match))


def add_labels(
    name: str, labels: Sequence[str | values.Label], if_match: str | None, *, warm: bool
) -> Call[values.LabelSetSummary]:
    """POST /v1/label-sets/{name}/labels; labels that are there already change nothing."""
    body = {"labels": _labels(labels)}
    return _change("POST", f"{_set(name)}/labels", _summary, _conditions(match=if_match), body, warm=warm)


def remove_label(name: str, label: str, if_match: str | None) -> Call[values.LabelSetSummary]:
    """DELETE /v1/label-sets/{name}/labels/{label}."""
    path = f"{_set(name)}/labels/{_quoted(label)}"
    return _change("DELETE", path, _summary, _conditions(match=if_match))


def _change(
    method: str,
    path: str,
    read: Callable[[httpx2.Response], Value],
    conditions: Mapping[str, str],
    body: Any = None,
    *,
    warm: bool = False,
) -> Call[Value]:
    """A change of a label set. All its tries have one id, by which the service makes it once."""
    return Call(
        method,
        path,
        read,
        params={"warm": "true"} if warm else None,
        headers={**conditions, "X-Request-ID": uuid4().hex},
        body=body,
    )


def create_job(
    question: Question, webhook: str | None, webhook_secret: str | None, idempotency_key: str | None
) -> Call[values.Job]:
    """POST /v1/jobs; sent again with the same key, it returns the same job."""
    if idempotency_key is None:
        idempotency_key = uuid4().hex
    elif not re.fullmatch("[!-~]{1,255}", idempotency_key):
        raise InvalidArgumentError("an idempotency key has 1 to 255 visible ASCII characters")
    sent = {"webhook": webhook, "webhook_secret": webhook_secret}
    return Call(
        "POST",
        "/v1/jobs",
        _job,
        headers={"Idempotency-Key": idempotency_key},
        form=_form(question) | {name: value for name, value in sent.items() if value is not None},
        part="files",
    )


def job_page(cursor: str | None) -> Call[tuple[list[values.Job], str | None]]:
    """GET /v1/jobs: a page, and the cursor of the next one."""

    def read(answer: httpx2.Response) -> tuple[list[values.Job], str | None]:
        page = answer.json()
        return list(map(values.Job.read, page["jobs"])), page["next_cursor"]

    return Call("GET", "/v1/jobs", read, params=None if cursor is None else {"cursor": cursor})


def get_job(job_id: str) -> Call[values.Job]:
    """GET /v1/jobs/{id}."""
    return Call("GET", f"/v1/jobs/{_quoted(job_id)}", _job)


def job_results(job_id: str) -> Call[list[values.JobResult]]:
    """GET /v1/jobs/{id}/results: JSON lines."""

    def read(answer: httpx2.Response) -> list[values.JobResult]:
        return [values.JobResult.read(json.loads(line)) for line in answer.content.splitlines()]

    return Call("GET", f"/v1/jobs/{_quoted(job_id)}/results", read)


def cancel_job(job_id: str) -> Call[values.Job]:
    """POST /v1/jobs/{id}/cancel; one that has ended stays as it is."""
    return Call("POST", f"/v1/jobs/{_quoted(job_id)}/cancel", _job)


def delete_job(job_id: str) -> Call[None]:
    """DELETE /v1/jobs/{id}."""
    return Call("DELETE", f"/v1/jobs/{_quoted(job_id)}", lambda _: None, is_safe=False)


def _job(answer: httpx2.Response) -> values.Job:
    return values.Job.read(answer.json())


def _set(name: str) -> str:
    return f"/v1/label-sets/{_quoted(name)}"


def _quoted(name: str) -> str:
    """One segment of a path. Dots too: `..` would lead to another address."""
    if not name:
        raise InvalidArgumentError("the name is empty")
    return quote(name, safe="").replace(".", "%2E")


def _label_set(answer: httpx2.Response) -> values.LabelSet:
    return values.LabelSet.read(answer.json())


def _summary(answer: httpx2.Response) -> values.LabelSetSummary:
    return values.LabelSetSummary.read(answer.json())


def _labels(labels: Sequence[str | values.Label]) -> list[str | dict[str, Any]]:
    if isinstance(labels, str):
        raise InvalidArgumentError(f"labels is one text; give a list: [{labels[:40]!r}]")
    return [one if isinstance(one, str) else one.as_document() for one in labels]


def _conditions(match: str | None = None, none: str | None = None) -> dict[str, str]:
    given = {"If-Match": match, "If-None-Match": none}
    return {name: etag if etag == "*" else f'"{etag}"' for name, etag in given.items() if etag is not None}
