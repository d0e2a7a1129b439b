"""Two replicas on one PostgreSQL database: each sees what the other changed, and both outlive its absence."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from tests.service.api.conftest import classify, wait_until_tried
from tests.service.postgres.server import PASSWORD, Server, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

from sqlalchemy import text

from service.access.keys import make_key
from service.api.app import create_app
from service.api.jobs import runner
from service.errors import StoreUnavailableError
from service.jobs.postgres.store import PostgresJobStore
from service.postgres.database import PostgresDatabase
from service.settings import Settings
from tests.service.api.jobs_client import ended, post_job, results_of, wait_until
from tests.service.jobs.conftest import LIMITS, add

Replicas = tuple[TestClient, TestClient]


@pytest.fixture
def replicas(toy_bundle: Path, tmp_path: Path, store_url: str) -> Iterator[Replicas]:
    """With a data directory each."""
    with ExitStack() as stack:

        def replica(name: str) -> TestClient:
            settings = Settings(
                bundles=(toy_bundle,), store=SecretStr(store_url), data_dir=tmp_path / name, decode_workers=1
            )
            app = create_app(settings)
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            wait_until_tried(app)
            return client

        yield replica("one"), replica("other")


def test_a_change_on_one_replica_is_ranked_by_the_other(replicas: Replicas, clips: dict[str, Path]) -> None:
    """By the next request, without waiting for anything."""
    one, other = replicas
    one.put("/v1/label-sets/colours", json={"labels": ["green", "blue"]})
    assert classify(other, clips["red low"], label_set="colours").json()["n_labels"] == 2
    one.post("/v1/label-sets/colours/labels", json={"labels": ["red"]})
    answer = classify(other, clips["red low"], label_set="colours").json()
    assert answer["predictions"][0]["label"] == "red"
    assert answer["warnings"] == []
    assert "Warning" not in other.get("/v1/label-sets/colours").headers


def test_a_change_that_is_sent_again_is_made_once(replicas: Replicas) -> None:
    """To another replica, with the same X-Request-ID: the same answer, though the set has changed since."""
    one, other = replicas
    etag = one.put("/v1/label-sets/s", json={"labels": ["a", "b"]}).headers["ETag"]
    headers = {"If-Match": etag, "X-Request-ID": "mine"}
    removed = one.request("DELETE", "/v1/label-sets/s/labels/a", headers=headers)
    one.post("/v1/label-sets/s/labels", json={"labels": ["a"]})
    again = other.request("DELETE", "/v1/label-sets/s/labels/a", headers=headers)
    assert (removed.status_code, removed.json()) == (again.status_code, again.json())
    assert again.json()["n_labels"] == 1
    new = other.request("DELETE", "/v1/label-sets/s/labels/a", headers={"If-Match": etag})
    assert new.status_code == 412
    assert [one["name"] for one in other.get("/v1/label-sets/s").json()["labels"]] == ["b", "a"]
    deleted = [
        replica.request("DELETE", "/v1/label-sets/s", headers={"X-Request-ID": "deleting"})
        for replica in (one, other)
    ]
    assert [answer.status_code for answer in deleted] == [204, 204]


def test_known_sets_are_ranked_while_the_database_is_away(
    replicas: Replicas, clips: dict[str, Path], postgres: Server
) -> None:
    """With a warning and a metric; the replica stays ready, changes are refused, and no password is told."""
    one, _ = replicas
    one.put("/v1/label-sets/colours", json={"labels": ["green", "red"]})
    with postgres.frozen():
        answer = classify(one, clips["red low"], label_set="colours")
        read = one.get("/v1/label-sets/colours")
        refused = one.post("/v1/label-sets/colours/labels", json={"labels": ["blue"]})
        metrics = one.get("/metrics").text
        assert one.get("/v2/health/ready").status_code == 200
    assert answer.json()["predictions"][0]["label"] == "red"
    assert "was used as it was read last" in answer.json()["warnings"][0]
    assert read.headers["Warning"] == '110 - "Response is Stale"'
    assert [label["name"] for label in read.json()["labels"]] == ["green", "red"]
    assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
    assert "ahse_store_away 1.0" in metrics
    assert "ahse_stale_label_sets_total 1.0" in metrics
    assert PASSWORD not in refused.text


def test_names_are_encoded_by_one_replica_only(replicas: Replicas, clips: dict[str, Path]) -> None:
    """The other takes their embeddings from the database, and answers the same."""
    one, other = replicas
    first = classify(one, clips["red low"], labels=["red", "blue"]).json()
    second = classify(other, clips["red low"], labels=["red", "blue"]).json()
    assert first["predictions"] == second["predictions"]
    assert 'ahse_labels_total{cache="miss"} 2.0' in one.get("/metrics").text
    assert 'ahse_labels_total{cache="hit"} 2.0' in other.get("/metrics").text


def test_a_job_of_one_replica_is_told_by_the_other(replicas: Replicas, clips: dict[str, Path]) -> None:
    """Its state, its events and its results; the one that took it works on it."""
    one, other = replicas
    job = post_job(one, clips["red low"], labels=["red", "blue"]).json()
    done = ended(other, job)
    assert (done["state"], done["n_done"]) == ("done", 1)
    (result,) = results_of(other, job)
    assert result["predictions"][0]["label"] == "red"
    assert other.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert one.get(f"/v1/jobs/{job['id']}").status_code == 404


def test_a_job_whose_replica_is_gone_for_good_ends(
    replicas: Replicas, store_url: str, tmp_path: Path
) -> None:
    """Another one takes it over, and says of each clip that it is lost."""
    one, _ = replicas
    with closing(PostgresDatabase(store_url)) as database:
        gone = PostgresJobStore(database, tmp_path / "gone", LIMITS)
        job = add(gone, 2)
        older = text(
            "UPDATE replicas SET since = now() - interval '9 days', "
            "seen = CASE WHEN id = :gone THEN now() - interval '9 days' ELSE seen END"
        )
        wait_until(one, lambda: database.ask("SELECT count(*) FROM replicas") == (3,))
        database.write(lambda connection: connection.execute(older, {"gone": gone.folder.identity()}))
    failed = ended(one, {"id": job.id})
    assert (failed["state"], failed["n_failed"]) == ("failed", 2)
    assert [(one["code"], one["status"]) for one in results_of(one, failed)] == 2 * [("clip_lost", 410)]


def test_a_key_of_one_replica_opens_the_other(replicas: Replicas) -> None:
    """Once it has read the keys again; from then on it lets nobody in without one."""
    one, other = replicas
    key, text = make_key("shared", frozenset({"classify"}))
    one.app.state.keys._store.create(key)  # type: ignore[attr-defined]  # of our app
    other.app.state.keys.refresh()  # type: ignore[attr-defined]
    assert other.get("/v1/models").status_code == 401
    assert other.get("/v1/models", headers={"X-API-Key": text}).status_code == 200


def test_a_service_does_not_start_on_a_database_without_tables(
    toy_bundle: Path, tmp_path: Path, postgres: Server
) -> None:
    """It says what to run, and makes none by itself."""
    url = SecretStr(postgres.url(postgres.new_database()))
    settings = Settings(bundles=(toy_bundle,), store=url, data_dir=tmp_path)
    with pytest.raises(StoreUnavailableError, match="run: ahse store upgrade"):
        create_app(settings)


def test_an_outage_is_logged_without_secrets_and_once(
    toy_bundle: Path, tmp_path: Path, store_url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a service as it is started, at the level that says most."""
    monkeypatch.setattr(runner, "TICK_S", 0.01)
    settings = Settings(
        bundles=(toy_bundle,), store=SecretStr(store_url), data_dir=tmp_path, decode_workers=1
    )
    with capture_logs() as logs, TestClient(create_app(settings)) as client:
        wait_until_tried(client.app)
        postgres.stop()
        try:
            keys = client.app.state.keys  # type: ignore[attr-defined]  # of our app
            wait_until(client, lambda: _events(logs, "jobs_unavailable") and not keys._is_readable)
            assert client.get("/v1/label-sets/unknown").status_code == 503
        finally:
            postgres.start()
        wait_until(client, lambda: _events(logs, "jobs_available_again") and keys._is_readable)
    for event in ("store_away", "jobs_unavailable", "keys_unreadable", "store_back"):
        assert len(_events(logs, event)) == 1, event
    said = "".join(
        str(log) + "".join(traceback.format_exception(log["exc_info"]))
        for log in logs
        if isinstance(log.get("exc_info"), Exception)
    )
    assert "StoreUnavailableError" in said
    for secret in (PASSWORD, "psycopg.", "sqlalchemy.exc", "connection failed"):
        assert secret not in said


def _events(logs: list[Any], event: str) -> list[Any]:
    return [log for log in logs if log["event"] == event]
