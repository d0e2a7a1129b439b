"""The client against a running service, both ways of waiting."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import io
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service import __version__
from service.client import Answer, AsyncClient, Client, Job, Label, ServiceError, UnreachableError
from tests.service.serving import serving
from tests.toy import CLASSES

Ask = Callable[..., Any]


def _waiting(url: str, **options: Any) -> Ask:
    """Calls one method of a `Client`."""

    def ask(method: str, *args: Any, **kwargs: Any) -> Any:
        with Client(url, **options) as client:
            found = getattr(client, method)(*args, **kwargs)
            return list(found) if inspect.isgenerator(found) else found

    return ask


def _awaiting(url: str, **options: Any) -> Ask:
    """Calls one method of an `AsyncClient`."""

    async def called(method: str, *args: Any, **kwargs: Any) -> Any:
        async with AsyncClient(url, **options) as client:
            found = getattr(client, method)(*args, **kwargs)
            return await found if isinstance(found, Awaitable) else [one async for one in found]

    return lambda *args, **kwargs: asyncio.run(called(*args, **kwargs))


BOTH = pytest.mark.parametrize("kind", [_waiting, _awaiting], ids=["Client", "AsyncClient"])


@BOTH
def test_a_file_may_have_any_name(
    kind: Callable[[str], Ask], toy_service: str, clips: dict[str, Path], tmp_path: Path
) -> None:
    """Also one that is no text."""
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    path.write_bytes(clips["red low"].read_bytes())
    assert kind(toy_service)("classify", path, labels=CLASSES).predictions


@BOTH
def test_a_clip_is_ranked_and_its_upload_reported(
    kind: Callable[[str], Ask], toy_service: str, clips: dict[str, Path]
) -> None:
    """From a path, bytes and an open file alike; every byte is reported."""
    ask, clip = kind(toy_service), clips["red low"]
    sent: list[tuple[int, int | None]] = []

    def ranked(source: Any) -> Answer:
        answer: Answer = ask(
            "classify", source, labels=CLASSES, top_k=3, segment_s="auto", progress=lambda *n: sent.append(n)
        )
        return answer

    of_path = ranked(clip)
    size = clip.stat().st_size
    assert sent[-1] == (size, size)
    assert of_path.best.label == CLASSES[0]
    assert [one.rank for one in of_path.predictions] == [1, 2, 3]
    assert of_path.tracks.audio.used
    assert of_path.segments is not None
    assert of_path.segments[0].predictions[0].label.startswith("red")
    assert of_path.document["predictions"][0]["label"] == CLASSES[0]
    with clip.open("rb") as file:
        others = [ranked(str(clip)), ranked(clip.read_bytes()), ranked(file)]
    assert [one.predictions for one in others] == 3 * [of_path.predictions]


def test_an_open_file_is_read_from_where_it_stands(toy_service: str, clips: dict[str, Path]) -> None:
    """A clip inside another file, behind a header of its own."""
    file = io.BytesIO(b"header" + clips["red low"].read_bytes())
    file.seek(6)
    with Client(toy_service) as client:
        assert client.classify(file, labels=["red", "blue"]).best.label == "red"


def test_a_pipe_is_streamed(toy_service: str, clips: dict[str, Path]) -> None:
    """Its size is unknown until it ends."""
    read, write = os.pipe()
    content = clips["red low"].read_bytes()[: 2**15]  # what a pipe holds without a reader
    os.write(write, content)
    os.close(write)
    sent: list[tuple[int, int | None]] = []
    with Client(toy_service) as client, os.fdopen(read, "rb") as pipe:
        answer = client.classify(pipe, labels=["red", "blue"], progress=lambda *n: sent.append(n))
    assert answer.best.label == "red"
    assert sent[-1] == (len(content), None)


@BOTH
def test_an_error_has_the_words_of_the_service(kind: Callable[[str], Ask], toy_service: str) -> None:
    """Its code, status and request id too."""
    with pytest.raises(ServiceError) as caught:
        kind(toy_service)("classify", b"no clip " * 100, labels=["a", "b"])
    error = caught.value
    assert (error.code, error.status) == ("not_media", 415)
    assert error.detail.startswith("This is not a clip that can be read")
    assert str(error) == error.message == error.detail
    assert error.request_id
    assert error.retry_after_s is None


@BOTH
def test_label_sets_are_made_changed_listed_and_deleted(kind: Callable[[str], Ask], toy_service: str) -> None:
    """With their ETags; names that look like parts of a path are only names."""
    ask, name = kind(toy_service), f"sets.of.{kind.__name__}"
    labels = ["dog", Label("siren", ("a wailing siren",))]
    made = ask("put_label_set", name, labels, templates=["a {}."], guarantee=0.9, warm=True)
    assert (made.n_labels, made.templates, made.guarantee) == (2, ("a {}.",), 0.9)
    read = ask("label_set", name)
    assert read.labels == (Label("dog"), Label("siren", ("a wailing siren",)))
    assert read.as_document().items() >= made.as_document().items()
    assert ask("label_set_if_changed", name, made.etag) is None
    more = ask("add_labels", name, ["..", "a/b", "50 %?"], if_match=made.etag, warm=True)
    assert (more.n_labels, more.created) == (5, made.created)
    assert ask("label_set_if_changed", name, made.etag).labels[2:] == (
        Label(".."),
        Label("a/b"),
        Label("50 %?"),
    )
    with pytest.raises(ServiceError, match="has changed since you read it") as caught:
        ask("remove_label", name, "dog", if_match=made.etag)
    assert caught.value.code == "precondition_failed"
    for odd in ("..", "a/b", "50 %?"):
        less = ask("remove_label", name, odd)
    assert ask("label_set", name).labels == read.labels
    assert less in ask("label_sets")
    with pytest.raises(ServiceError, match="exists already"):
        ask("put_label_set", name, [], is_new=True)
    assert name in [one.name for one in ask("label_sets")]
    ask("delete_label_set", name)
    with pytest.raises(ServiceError, match="there is no label set"):
        ask("label_set", name)


@BOTH
def test_the_listing_goes_over_all_pages(kind: Callable[[str], Ask], toy_service: str) -> None:
    """The service gives a hundred at once."""
    names = [f"page-{kind.__name__}-{i:03}" for i in range(101)]
    with Client(toy_service) as client:
        for name in names:
            client.put_label_set(name, [])
        listed = [one.name for one in kind(toy_service)("label_sets")]
        for name in names:
            client.delete_label_set(name)
    assert [name for name in listed if name in names] == names


@BOTH
def test_models_info_and_health(kind: Callable[[str], Ask], toy_service: str) -> None:
    """What runs there."""
    ask = kind(toy_service)
    (model,) = ask("models")
    assert (model.id, model.default, len(model.digest)) == ("toy", True, 64)
    assert ask("model", "toy") == model
    with pytest.raises(ServiceError, match="loaded are: toy"):
        ask("model", "none")
    info = ask("info")
    assert (info.version, info.bundles, info.default_bundle) == (__version__, ("toy",), "toy")
    assert info.limits.max_labels == 10_000
    assert dataclasses.astuple(ask("health")) == (True, "")


@BOTH
def test_a_job_is_sent_watched_and_read(
    kind: Callable[[str], Ask], toy_service: str, clips: dict[str, Path]
) -> None:
    """Clips by their names, all uploads reported together; a broken one costs its own result only."""
    ask, sent, seen = kind(toy_service), list[tuple[int, int | None]](), list[Job]()
    red, broken = clips["red low"], b"no clip " * 100
    job = ask("create_job", [red, broken], labels=CLASSES, top_k=1, progress=lambda *n: sent.append(n))
    size = red.stat().st_size + len(broken)
    assert sent[-1] == (size, size)
    assert (job.n_clips, job.has_ended, job.clips) == (2, False, None)
    ended = ask("wait_for_job", job.id, every_s=0.01, progress=seen.append)
    assert (ended.state, ended.progress, ended.n_failed, seen[-1]) == ("done", 1, 1, ended)
    assert [(one.name, one.state) for one in ended.clips] == [(red.name, "done"), ("clip", "failed")]
    answered, failed = ask("job_results", job.id)
    assert (answered.name, answered.answer.best.label, answered.error) == (red.name, CLASSES[0], None)
    assert (failed.index, failed.answer) == (1, None)
    assert (failed.error.code, failed.error.status) == ("not_media", 415)
    assert ask("cancel_job", job.id).state == "done"
    assert ended.id in [one.id for one in ask("jobs")]
    ask("delete_job", job.id)
    with pytest.raises(ServiceError, match="job") as caught:
        ask("job", job.id)
    assert caught.value.code == "unknown_job"


def test_a_job_of_the_same_name_is_the_same_job(toy_service: str, clips: dict[str, Path]) -> None:
    """Without a name, each call makes one."""
    with Client(toy_service) as client:
        jobs = [
            client.create_job([clips["red low"]], labels=["red", "blue"], idempotency_key=key).id
            for key in ("mine", "mine", None, None)
        ]
        assert len(set(jobs)) == 3
        assert jobs[0] == jobs[1]
        listed = [job.id for job in client.jobs()]
        assert [one for one in listed if one in jobs] == [jobs[3], jobs[2], jobs[0]]
        for one in set(jobs):
            client.delete_job(one)


def test_the_key_is_that_of_the_argument_or_of_the_environment(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one sends none."""
    key = "0123456789abcdef0123456789abcdef"
    with serving(toy_bundle, tmp_path, variables={"AHSE_API_KEY": key}) as running:
        url = str(running.base_url)
        assert _waiting(url, key=key)("info").version == __version__
        with pytest.raises(ServiceError) as caught:
            _waiting(url)("info")
        assert caught.value.code == "unauthenticated"
        monkeypatch.setenv("AHSE_API_KEY", key)
        assert _waiting(url)("info").version == __version__
        with pytest.raises(ServiceError):
            _waiting(url, key="")("info")


def test_a_certificate_of_ones_own_must_be_trusted(
    toy_bundle: Path, tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the variable that helps, and the variable helps; so does a context."""
    variables = {"AHSE_TLS_CERT": str(certificate[0]), "AHSE_TLS_KEY": str(certificate[1])}
    trusted = ssl.create_default_context(cafile=certificate[0])
    with serving(toy_bundle, tmp_path, variables=variables, verify=trusted) as running:
        url = str(running.base_url)
        with pytest.raises(UnreachableError, match="SSL_CERT_FILE"):
            _waiting(url)("info")
        assert _waiting(url, verify=trusted)("info").version == __version__
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert _waiting(url)("info").version == __version__
