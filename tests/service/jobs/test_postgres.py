"""Jobs in PostgreSQL: several replicas, each with the clips that it took, and answers that are lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from service.errors import QuotaExceededError, StoreUnavailableError
from service.jobs.job import NewJob, Outcome, Webhook
from tests.service.jobs.conftest import DAY, LIMITS, NOW, add
from tests.service.postgres.server import Server, why_absent

if reason := why_absent():
    pytest.skip(reason, allow_module_level=True)

from service.jobs.postgres.store import PostgresJobStore
from service.postgres.database import PostgresDatabase
from tests.service.postgres.lost_answers import lose_answers_to_commit

ANSWER = Outcome("answer", '{"best":"dog"}')
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


def test_reports_are_sent_by_the_replica_that_took_the_job(replica: MakeReplica) -> None:
    """Else each would send them."""
    one, other = replica("one"), replica("other")
    job = add(one, webhook=Webhook("https://example.org/hook", "whsec_x"))
    other.cancel(job.id, NOW)
    assert other.due_webhooks(NOW, 10) == []
    assert [due.job.id for due in one.due_webhooks(NOW, 10)] == [job.id]


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
