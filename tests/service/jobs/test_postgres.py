"""Jobs in PostgreSQL: several replicas, each with the clips that it took, and answers that are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.errors import QuotaExceededError, StoreUnavailableError
from service.jobs.job import NewJob, Outcome, Webhook
from tests.service.jobs.conftest import DAY, LIMITS, NOW, add
from tests.service.postgres.server import Server, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

from sqlalchemy import Connection, text

from service.jobs.postgres.store import PostgresJobStore
from service.postgres.connection import TimedConnection
from service.postgres.database import PostgresDatabase
from tests.service.postgres.lost_answers import lose_answers_to_commit

ANSWER = Outcome("answer", '{"best":"dog"}')
PROBLEM = Outcome("problem", '{"code":"clip_lost"}')
MakeReplica = Callable[[str], PostgresJobStore]


@pytest.fixture
def replica(store_url: str, tmp_path: Path) -> Iterator[MakeReplica]:
    """Opens the store of a replica, which has a data directory of its name, and works on its jobs."""
    with ExitStack() as stack:

        def made(name: str) -> PostgresJobStore:
            database = stack.enter_context(closing(PostgresDatabase(store_url, 0.5)))
            store = stack.enter_context(closing(PostgresJobStore(database, tmp_path / name, LIMITS)))
            assert store.lead()
            return store

        yield made


def test_a_job_is_worked_on_where_its_clips_are_and_seen_everywhere(replica: MakeReplica) -> None:
    """Also after a restart of that replica."""
    one, other = replica("one"), replica("other")
    job = add(one, 2)
    assert other.get(job.id) == job
    assert other.claim(NOW) is None
    one.close()
    again = replica("one")
    claim = again.claim(NOW)
    assert claim is not None
    assert claim.path.read_bytes() == b"x" * 10
    again.finish(claim, ANSWER, NOW)
    assert other.outcome(job.id, 0) == ANSWER
    assert [one.state for one in other.clips(job.id)] == ["done", "queued"]


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_a_job_that_another_replica_has_ended_is_swept_away(replica: MakeReplica, how: str) -> None:
    """At the next tick of the one that has its clips; clips of other jobs stay."""
    one, other = replica("one"), replica("other")
    job, kept = add(one), add(one)
    claim = one.claim(NOW)
    assert claim is not None
    if how == "cancel":
        other.cancel(job.id, NOW)
    else:
        other.delete(job.id)
    assert one.unwanted([job.id, kept.id]) == {job.id}
    assert one.finish(claim, ANSWER, NOW) is None
    one.expire(NOW)
    assert {path.name for path in one.folder.path.glob("job_*")} == {kept.id}


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_a_clip_whose_job_was_ended_is_forgotten(replica: MakeReplica, how: str) -> None:
    """Nobody finishes it, nor gives it back."""
    store = replica("one")
    job, other = add(store), add(store)
    assert store.claim(NOW) is not None
    if how == "cancel":
        store.cancel(job.id, NOW)
    else:
        store.delete(job.id)
    assert store.claim(NOW) is not None
    assert store._claims._held == {(other.id, 0): 1}


def test_a_large_outcome_has_the_long_deadline(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the connection on which requests ask for the versions of label sets."""
    wait, deadlines = TimedConnection.wait, set[float]()

    def noting(connection: TimedConnection, *args: Any, **options: Any) -> Any:
        deadlines.add(connection.deadline_s)
        return wait(connection, *args, **options)

    with (
        closing(PostgresDatabase(store_url, 10.0)) as database,
        closing(PostgresJobStore(database, tmp_path / "one", LIMITS)) as store,
    ):
        job = add(store)
        claim = store.claim(NOW)
        assert claim is not None
        store.finish(claim, ANSWER, NOW)
        monkeypatch.setattr(TimedConnection, "wait", noting)
        assert store.outcome(job.id, 0) == ANSWER
    assert deadlines == {10.0}


def test_a_finished_job_expires_though_its_replica_is_gone(replica: MakeReplica) -> None:
    """Any other removes its results; both at once do no harm."""
    gone, others = replica("gone"), [replica("one"), replica("other")]
    job = add(gone)
    claim = gone.claim(NOW)
    assert claim is not None
    gone.finish(claim, ANSWER, NOW)
    gone.close()
    with ThreadPoolExecutor(2) as threads:
        expired = list(threads.map(lambda store: store.expire(NOW + DAY), others))
    assert sorted(expired) == [[], [job.id]]


def _age(store: PostgresJobStore, **hours: float) -> None:
    """Let the database believe that a replica was seen so long ago, or has been there for so long."""
    for column, n_hours in hours.items():
        query = f"UPDATE replicas SET {column} = now() - make_interval(secs => :s) WHERE id = :id"  # noqa: S608  (columns)
        values = {"s": 3600 * n_hours, "id": store._replica.id}
        store._database.write(partial(_execute, query, values))


def _execute(query: str, values: dict[str, object], connection: Connection) -> None:
    assert connection.execute(text(query), values).rowcount == 1


def test_the_jobs_of_a_replica_that_is_gone_are_taken_over(replica: MakeReplica) -> None:
    """After the time for which results are kept, with all that is left to do, by one of the others."""
    gone, others = replica("gone"), [replica("one"), replica("other")]
    hook = Webhook("https://example.org/hook", "whsec_x")
    running, queued, reported, quiet = (
        add(gone, 2, webhook=hook),
        add(gone),
        add(gone, webhook=hook),
        add(gone),
    )
    claim = gone.claim(NOW)
    assert claim is not None
    gone.cancel(reported.id, NOW)
    gone.cancel(quiet.id, NOW)
    gone.close()
    for one in others:
        _age(one, since=1)
    _age(gone, seen=23.9)
    assert [one.usage().n_unfinished for one in others] == [0, 0]
    _age(gone, seen=24.1)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda store: store.expire(NOW), others))
    assert sorted(one.usage().n_unfinished for one in others) == [0, 2]
    heir = max(others, key=lambda one: one.usage().n_unfinished)
    assert [due.job.id for due in heir.claim_webhooks(NOW, 10, [])] == [reported.id]
    for n_left in (2, 1, 0):
        lost = heir.claim(NOW)
        assert lost is not None
        assert not lost.path.exists()
        ended = heir.finish(lost, PROBLEM, NOW)
        assert ended is not None
        assert ended.is_unfinished is (lost.job_id == running.id and n_left == 2)
    assert [heir.get(one.id).state for one in (running, queued, quiet)] == ["failed", "failed", "cancelled"]
    later = NOW + timedelta(seconds=5)
    assert {due.job.id for due in heir.claim_webhooks(later, 10, [])} == {reported.id, running.id}


def test_a_replica_that_comes_back_works_on_what_was_taken_over_no_more(replica: MakeReplica) -> None:
    """It was cut off while it worked on a clip: that is not wanted, and counts once."""
    back, heir = replica("back"), replica("heir")
    job = add(back)
    claim = back.claim(NOW)
    assert claim is not None
    _age(heir, since=1)
    _age(back, seen=25)
    heir.expire(NOW)
    assert back.unwanted([job.id]) == {job.id}
    again = heir.claim(NOW)
    assert again is not None
    assert back.finish(claim, ANSWER, NOW) is None
    back.release(claim, is_tried=True)
    assert heir.clips(job.id)[0].state == "running"
    assert back.claim(NOW) is None
    assert heir.finish(again, PROBLEM, NOW) == heir.get(job.id)
    new = add(back)
    back.expire(NOW)
    heir.expire(NOW)
    claimed = back.claim(NOW)
    assert claimed is not None
    assert claimed.job_id == new.id


def test_a_replica_that_was_away_itself_lets_the_others_be_seen_first(replica: MakeReplica) -> None:
    """The database was away from all, or its clock was set: whoever is back first takes nothing over."""
    one, other = replica("one"), replica("other")
    add(other)
    _age(one, since=100, seen=25)
    _age(other, since=100, seen=25)
    one.expire(NOW)
    other.expire(NOW)
    _age(one, since=1)
    one.expire(NOW)
    assert (one.usage().n_unfinished, other.usage().n_unfinished) == (0, 1)


def test_a_short_retention_is_no_reason_to_think_that_a_replica_is_gone(
    store_url: str, tmp_path: Path
) -> None:
    """It may be restarted: an hour is the least."""
    limits = replace(LIMITS, kept_for=timedelta(seconds=60))
    with (
        closing(PostgresDatabase(store_url)) as database,
        closing(PostgresJobStore(database, tmp_path / "one", limits)) as one,
        closing(PostgresJobStore(database, tmp_path / "other", limits)) as other,
    ):
        assert one.lead()
        assert other.lead()
        add(other)
        _age(one, since=1)
        for hours, n_taken in ((0.9, 0), (1.1, 1)):
            _age(other, seen=hours)
            one.expire(NOW)
            assert one.usage().n_unfinished == n_taken


def test_reports_are_sent_by_the_replica_that_took_the_job(replica: MakeReplica) -> None:
    """Else each would send them."""
    one, other = replica("one"), replica("other")
    job = add(one, webhook=Webhook("https://example.org/hook", "whsec_x"))
    other.cancel(job.id, NOW)
    assert other.claim_webhooks(NOW, 10, []) == []
    assert [due.job.id for due in one.claim_webhooks(NOW, 10, [])] == [job.id]


def test_reports_whose_claim_was_not_answered_wait_for_their_pause(
    replica: MakeReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be sent already, for all that is known."""
    store = replica("one")
    job = add(store, webhook=Webhook("https://example.org/hook", "whsec_x"))
    store.cancel(job.id, NOW)
    lost = lose_answers_to_commit(monkeypatch)
    assert store.claim_webhooks(NOW, 10, []) == []
    assert lost == [1]
    (due,) = store.claim_webhooks(NOW + timedelta(seconds=5), 10, [])
    assert (due.job.id, due.attempt) == (job.id, 2)


def test_quotas_and_idempotency_keys_hold_on_all_replicas_together(replica: MakeReplica) -> None:
    """Exactly as many jobs are made as may be, however many requests arrive at once."""
    stores = [replica("one"), replica("other")]

    def make(i: int) -> bool:
        try:
            add(stores[i % 2], owner="k", max_owned=3)
        except QuotaExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(make, range(12))) == 3
    first = add(stores[0], owner="i", idempotency_key="once")
    assert add(stores[1], owner="i", idempotency_key="once") == first


def test_what_was_not_answered_is_done_once(replica: MakeReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job has its clips, a claim whose answer was lost is begun again, and an outcome counts once."""
    store = replica("one")
    lost = lose_answers_to_commit(monkeypatch)
    job = add(store, 2)
    assert lost == [1]
    assert len(store.page(None, "", 9)) == 1
    lost.clear()
    claims = [store.claim(NOW), store.claim(NOW)]
    assert lost == [1]
    assert sorted(claim.index for claim in claims if claim is not None) == [0, 1]
    lost.clear()
    for claim in claims:
        assert claim is not None
        assert claim.path.is_file()
        assert store.finish(claim, ANSWER, NOW) is not None
    assert lost == [1]
    done = store.get(job.id)
    assert (done.state, done.n_done) == ("done", 2)
    lost.clear()
    store.delete(job.id)
    assert lost == [1]


def test_a_job_that_may_have_been_kept_keeps_its_clips_until_that_is_known(
    replica: MakeReplica, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server freezes while it is made. It was not, so its clips are swept away."""
    store = replica("one")
    store.usage()
    take = store.folder.take
    with ExitStack() as stack:

        def freezing(clips: Path, job_id: str) -> None:
            take(clips, job_id)
            stack.enter_context(postgres.frozen())

        monkeypatch.setattr(store.folder, "take", freezing)
        with pytest.raises(StoreUnavailableError):
            add(store)
        (folder,) = store.folder.path.glob("job_*")
    monkeypatch.setattr(store._database, "_try_again", 0.0)
    store.expire(NOW)
    assert not folder.exists()
    assert store.page(None, "", 9) == []


def test_names_of_files_may_hold_any_character(replica: MakeReplica) -> None:
    """Also those that a text of the database can't."""
    store, name = replica("one"), "nul \x00, half \ud800.mp4"
    clips = store.folder.path / "arriving"
    clips.mkdir()
    (clips / "0").write_bytes(b"x")
    job, _ = store.create(NewJob("", (("labels", "a\x00b"),), (name,)), clips, NOW)
    assert store.clips(job.id)[0].name == name


def test_owners_take_turns_on_each_replica(replica: MakeReplica) -> None:
    """What an owner has had on another replica, whose clips nobody else can work on, does not count here."""
    one, other = replica("one"), replica("other")
    owners = {add(store, 9, owner).id: owner for store, owner in ((one, "a"), (one, "b"), (other, "a"))}
    turns = []
    for _ in range(3):
        assert other.claim(NOW) is not None
        for _ in range(2):
            claim = one.claim(NOW)
            assert claim is not None
            turns.append(owners[claim.job_id])
    assert turns == ["a", "b"] * 3
