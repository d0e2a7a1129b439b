"""What must go on while clips are worked on, and what must never end in a 5xx."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.api.app import create_app
from service.classifier import Classifier
from service.embed import embedder
from service.embed.embedder import Embedding
from service.encode.encoders import Encoders
from service.encode.features import TextFeatures
from service.encode.text import encode_labels
from service.errors import DecoderUnavailableError, UploadUnavailableError
from service.labels.label import Label
from service.labels.sqlite.store import SqliteLabelStore
from service.settings import Settings
from tests.service.api.conftest import classify, wait_until_tried
from tests.toy import CLASSES

Clips = dict[str, Path]


@contextmanager
def _held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Classifications wait until the context ends; the event says that one has begun."""
    begun, go_on, original = threading.Event(), threading.Event(), Classifier.classify

    def waiting(*args: Any, **kwargs: Any) -> Any:
        begun.set()
        go_on.wait(60)
        return original(*args, **kwargs)

    monkeypatch.setattr(Classifier, "classify", waiting)
    try:
        yield begun
    finally:
        go_on.set()


def _decoder() -> int:
    """The only decoding process of this process."""
    listed = Path("/proc/self/task").glob("*/children")
    children = [int(pid) for task in listed for pid in task.read_text().split()]
    (found,) = [
        pid for pid in children if b"service.decode.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return found


def _impatient(bundle: Path, data_dir: Path) -> Settings:
    """A deployment that works on one clip at a time, for at most a second."""
    return Settings(
        bundles=(bundle,),
        data_dir=data_dir,
        max_concurrency=1,
        decode_workers=1,
        request_timeout_s=1.0,
        clip_cache_bytes=0,
    )


def _check_late(answer: Any) -> None:
    """It tells the client to try again."""
    assert (answer.status_code, answer.json()["code"]) == (504, "request_timeout")
    assert answer.headers["Retry-After"]


def test_health_and_label_sets_do_not_wait_behind_clips(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every clip worker busy, the service is still ready and label sets can be changed."""
    deployment = Settings(bundles=(toy_bundle,), data_dir=tmp_path, max_concurrency=1, decode_workers=1)
    with TestClient(create_app(deployment)) as client, ThreadPoolExecutor(1) as clicker:
        wait_until_tried(client.app)
        with _held(monkeypatch) as begun:
            running = clicker.submit(classify, client, clips["red low"], labels=["red"])
            assert begun.wait(60)
            assert client.get("/v2/health/ready").status_code == 200
            assert client.put("/v1/label-sets/s", json={"labels": ["a"]}).status_code == 201
        assert running.result().status_code == 200


def test_clips_do_not_wait_behind_new_names(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight requests of 5,000 new names kept a client with known names waiting for 98 s."""
    deployment = Settings(bundles=(toy_bundle,), data_dir=tmp_path, max_concurrency=2, decode_workers=1)
    with TestClient(create_app(deployment)) as client, ThreadPoolExecutor(3) as others:
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
        begun, go_on = threading.Semaphore(0), threading.Event()

        def waiting(*args: Any) -> Any:
            begun.release()
            assert go_on.wait(60)
            return encode_labels(*args)

        monkeypatch.setattr(embedder, "encode_labels", waiting)
        new = [
            others.submit(classify, client, clips["red low"], labels=[f"new {i}", "red"]) for i in range(3)
        ]
        assert begun.acquire(timeout=60)
        assert begun.acquire(timeout=60)
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
        go_on.set()
        assert [one.result(60).status_code for one in new] == [200] * 3


@contextmanager
def _slow_name(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """The name `slow` is encoded until the context ends; released for each step of any request."""
    stepped, go_on, step = threading.Semaphore(0), threading.Event(), Embedding.step

    def counted(names: Embedding) -> Any:
        stepped.release()
        return step(names)

    def waiting(encoders: Encoders, labels: Sequence[Label], *more: Any) -> TextFeatures:
        if labels[0].name == "slow":
            assert go_on.wait(60)
        return encode_labels(encoders, labels, *more)

    monkeypatch.setattr(Embedding, "step", counted)
    monkeypatch.setattr(embedder, "encode_labels", waiting)
    try:
        yield stepped
    finally:
        go_on.set()


def test_names_that_another_request_encodes_are_waited_for_without_a_thread(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight requests with the same new names once took all threads, and a ninth with other names waited."""
    deployment = Settings(bundles=(toy_bundle,), data_dir=tmp_path, max_concurrency=2, decode_workers=1)
    with TestClient(create_app(deployment)) as client, ThreadPoolExecutor(3) as others:

        def ask(name: str) -> Future[Any]:
            return others.submit(classify, client, clips["red low"], labels=[name])

        with _slow_name(monkeypatch) as stepped:
            same = [ask("slow"), ask("slow")]
            assert stepped.acquire(timeout=60)
            assert stepped.acquire(timeout=60)
            assert ask("other").result(60).status_code == 200
            assert not any(one.done() for one in same)
        assert [one.result(60).status_code for one in same] == [200, 200]


def test_a_deadline_passes_while_another_request_encodes_the_names(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer does not come only when that has ended."""
    deployment = _impatient(toy_bundle, tmp_path).model_copy(update={"max_concurrency": 2})
    with TestClient(create_app(deployment)) as client, ThreadPoolExecutor(1) as other:
        wait_until_tried(client.app)
        with _slow_name(monkeypatch) as stepped:
            first = other.submit(classify, client, clips["red low"], labels=["slow"])
            assert stepped.acquire(timeout=60)
            _check_late(classify(client, clips["red low"], labels=["slow"]))
            assert not first.done()
        _check_late(first.result(60))
        dropped = client.get("/metrics").text
    assert 'ahse_dropped_requests_total{waited_for="labels"} 1.0' in dropped


def test_a_request_whose_clip_takes_too_long_is_answered_504(
    toy_bundle: Path, clips: Clips, tmp_path: Path
) -> None:
    """Its running decode is stopped, and the next request is answered."""
    with TestClient(create_app(_impatient(toy_bundle, tmp_path))) as client:
        wait_until_tried(client.app)
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
        os.kill(_decoder(), signal.SIGSTOP)
        _check_late(classify(client, clips["red low"], labels=["red"]))
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
        dropped = client.get("/metrics").text
    assert 'ahse_dropped_requests_total{waited_for="decode"} 1.0' in dropped


def test_a_request_that_waits_too_long_is_answered_504(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind another one, which ends much later; nothing of it is begun then."""
    with TestClient(create_app(_impatient(toy_bundle, tmp_path))) as client, ThreadPoolExecutor(1) as other:
        wait_until_tried(client.app)
        with _held(monkeypatch) as begun:
            first = other.submit(classify, client, clips["red low"], labels=["red"])
            assert begun.wait(60)
            begun.clear()
            _check_late(classify(client, clips["red low"], labels=["red"]))
        _check_late(first.result(60))
        assert not begun.is_set()
        assert classify(client, clips["red low"], labels=["red"]).status_code == 200
        dropped = client.get("/metrics").text
    assert 'ahse_dropped_requests_total{waited_for="worker"} 1.0' in dropped


def test_readiness_does_not_wait_behind_changes_of_label_sets(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 large ones held it for over 40 s; reads go on too, and no change fails because others wait."""
    begun, go_on, put = threading.Event(), threading.Event(), SqliteLabelStore.put

    def waiting(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return put(*args)

    deployment = Settings(bundles=(toy_bundle,), data_dir=tmp_path)
    with TestClient(create_app(deployment)) as client, ThreadPoolExecutor(6) as others:
        wait_until_tried(client.app)
        monkeypatch.setattr(SqliteLabelStore, "put", waiting)
        changes = [
            others.submit(client.put, f"/v1/label-sets/s{i}", json={"labels": ["a"]}) for i in range(6)
        ]
        assert begun.wait(60)
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v1/label-sets").status_code == 200
        go_on.set()
        assert [one.result(60).status_code for one in changes] == [201] * 6


def test_parallel_requests_get_the_answers_of_single_ones(client: TestClient, clips: Clips) -> None:
    """Twelve at once, two clips mixed."""
    names = ["red low", "blue high"]
    alone = {name: classify(client, clips[name], labels=CLASSES).json()["predictions"] for name in names}
    with ThreadPoolExecutor(12) as many:
        answers = list(many.map(lambda name: classify(client, clips[name], labels=CLASSES).json(), names * 6))
    for name, answer in zip(names * 6, answers, strict=True):
        assert answer["predictions"] == alone[name]


def test_the_same_new_names_are_encoded_once(client: TestClient, clips: Clips) -> None:
    """However many requests bring them at the same time."""

    def misses() -> float:
        lines = client.get("/metrics").text.splitlines()
        return float(
            next(line.split()[1] for line in lines if line.startswith('ahse_labels_total{cache="miss"}'))
        )

    classify(client, clips["red low"], labels=["red"])
    before, fresh = misses(), [f"fresh name {index}" for index in range(10)]
    with ThreadPoolExecutor(8) as many:
        list(many.map(lambda _: classify(client, clips["red low"], labels=fresh), range(8)))
    assert misses() == before + 10


any_text = st.text(st.characters(codec=None), max_size=20)  # surrogates and control characters too


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=any_text, prompt=any_text, template=any_text)
def test_no_text_ends_in_a_5xx(
    client: TestClient, clips: Clips, name: str, prompt: str, template: str
) -> None:
    """As label, prompt or template; a set that was accepted can be read and used."""
    body = {"labels": [{"name": name, "prompts": [prompt]}], "templates": [template + "{}"]}
    headers = {"Content-Type": "application/json"}
    put = client.put("/v1/label-sets/any", content=json.dumps(body), headers=headers)
    assert put.status_code < 500
    if put.status_code < 400:
        assert client.get("/v1/label-sets/any").headers["ETag"] == put.headers["ETag"]
        assert classify(client, clips["red low"], label_set="any").status_code == 200
    fields = {"labels": json.dumps([name]), "templates": json.dumps([template + "{}"])}
    assert classify(client, clips["red low"], **fields).status_code < 500


def test_a_decoder_that_cannot_start_is_not_the_clips_fault(
    toy_bundle: Path, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with Retry-After, so that the client tries again; the clip is not called damaged."""

    def refuse(*_: object) -> None:
        raise DecoderUnavailableError("No clip can be decoded now; try again later.")

    monkeypatch.setattr("service.decode.pool.DecodePool.decode", refuse)
    with TestClient(create_app(Settings(bundles=(toy_bundle,), data_dir=tmp_path))) as client:
        response = classify(client, clips["red low"], labels=["red"])
    assert (response.status_code, response.json()["code"]) == (503, "decoder_unavailable")
    assert response.headers["Retry-After"]


def test_a_missing_upload_directory_is_found_out_at_start(toy_bundle: Path, tmp_path: Path) -> None:
    """Not by the first client."""
    with pytest.raises(UploadUnavailableError, match="AHSE_UPLOAD_DIR"):
        create_app(Settings(bundles=(toy_bundle,), data_dir=tmp_path, upload_dir=tmp_path / "none"))


def test_a_full_disk_is_503(client: TestClient, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing of the disk's paths."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.api.intake.multipart._Form._data", full)
    response = classify(client, clips["red low"], labels=["red"])
    assert (response.status_code, response.json()["code"]) == (503, "upload_unavailable")
    assert "device" not in response.text


def test_an_upload_that_can_not_be_read_back_is_503(
    client: TestClient, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's disk fails: the clip is not called damaged, and nothing is said of the disk."""

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("service.classifier.hashlib.file_digest", fail)
    response = classify(client, clips["red low"], labels=["red"])
    assert (response.status_code, response.json()["code"]) == (503, "clip_unavailable")
    assert response.headers["Retry-After"]
    assert "output" not in response.text
