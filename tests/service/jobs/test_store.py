"""What every store of jobs does: states, turns, what a killed process leaves behind, limits and expiry."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service.errors import OverloadedError, QuotaExceededError, StoreUnavailableError, UnknownJobError
from service.jobs.job import MAX_ATTEMPTS, Claim, Job, JobLimits, Outcome, Webhook
from service.jobs.sqlite.store import SqliteJobStore
from service.jobs.store import JobStore
from tests.service.jobs.conftest import DAY, FORM, NOW, Make, add

ANSWER = Outcome("answer", '{"best":"dog"}')
PROBLEM = Outcome("problem", '{"code":"not_media"}')


def _claim(store: JobStore) -> Claim:
    claim = store.claim(NOW)
    assert claim is not None
    return claim


def _work(store: JobStore, outcome: Outcome = ANSWER, now: datetime = NOW) -> Job:
    job = store.finish(_claim(store), outcome, now)
    assert job is not None
    return job


def test_a_job_runs_from_queued_to_done(store: JobStore) -> None:
    """Each step has a new version; the file of a clip goes with its outcome."""
    job = add(store, 2)
    assert (job.state, job.version, job.n_clips, job.started) == ("queued", 1, 2, None)
    claim = _claim(store)
    assert (claim.job_id, claim.index, claim.fields, claim.attempt) == (job.id, 0, FORM, 1)
    assert claim.path.read_bytes() == b"x" * 10
    assert store.get(job.id).state == "running"
    half = store.finish(claim, ANSWER, NOW)
    assert half is not None
    assert (half.state, half.n_done, half.ended) == ("running", 1, None)
    assert not claim.path.exists()
    done = _work(store, PROBLEM)
    assert (done.state, done.n_done, done.n_failed) == ("done", 2, 1)
    assert (done.started, done.ended, done.expires) == (NOW, NOW, NOW + DAY)
    assert [(one.index, one.name, one.state) for one in store.clips(job.id)] == [
        (0, "clip 0.mp4", "done"),
        (1, "clip 1.mp4", "failed"),
    ]
    assert (store.outcome(job.id, 0), store.outcome(job.id, 1)) == (ANSWER, PROBLEM)
    assert store.claim(NOW) is None
    assert not (store.folder.path / job.id).exists()


def test_a_job_without_any_answer_has_failed(store: JobStore) -> None:
    """Its problems are its results."""
    job = add(store, 1)
    assert _work(store, PROBLEM).state == "failed"
    assert store.outcome(job.id, 0) == PROBLEM


def test_versions_tell_which_clips_were_finished_since(store: JobStore) -> None:
    """In the order of their end, so that a stream of events can go on behind any of them."""
    job = add(store, 3)
    first, second = _claim(store), _claim(store)
    after = store.finish(second, ANSWER, NOW)
    store.finish(first, ANSWER, NOW)
    assert after is not None
    assert [one.index for one in store.clips(job.id, 0)] == [1, 0]
    assert [one.index for one in store.clips(job.id, after.version)] == [0]
    done = _work(store)
    assert done.version > store.clips(job.id)[2].version


def test_owners_take_turns(store: JobStore) -> None:
    """Whoever sends many jobs, or a large one, does not keep out who sends one."""
    many = [add(store, 2, "many").id for _ in range(2)]
    one = add(store, 1, "one").id
    turns = [_claim(store).job_id for _ in range(5)]
    assert turns == [many[0], one, many[0], many[1], many[1]]


@pytest.mark.parametrize("n_queued", [1, 3])
def test_an_owner_that_deletes_its_jobs_has_no_more_turns_than_others(store: JobStore, n_queued: int) -> None:
    """Nor one that comes back, with a single job at a time or with several."""
    owners = {add(store, 12, owner).id: owner for owner in "abc"}
    owners |= {add(store, owner="short").id: "short" for _ in range(n_queued)}
    turns = []
    for _ in range(16):
        claim = _claim(store)
        turns.append(owners[claim.job_id])
        store.finish(claim, ANSWER, NOW)
        if turns[-1] == "short":
            store.delete(claim.job_id)
            owners[add(store, owner="short").id] = "short"
    assert turns == ["a", "b", "c", "short"] * 4


def test_what_a_killed_process_left_behind_is_taken_up_again(make: Make) -> None:
    """Outcomes that there are stay; the clip that was being worked on is begun again."""
    killed = make()
    assert killed.lead()
    job = add(killed, 3)
    _work(killed)
    broken_off = _claim(killed)
    killed.folder.close()  # the system does that at its end
    store = make()
    assert store.lead()
    again = store.get(job.id)
    assert (again.state, again.n_done) == ("queued", 1)
    claim = _claim(store)
    assert (claim.index, claim.attempt) == (broken_off.index, 2)
    assert claim.path.is_file()
    store.finish(claim, ANSWER, NOW)
    assert _work(store).state == "done"
    assert [one.state for one in store.clips(job.id)] == ["done"] * 3


def test_only_one_process_works_on_the_jobs(make: Make) -> None:
    """Another one takes over when it has ended; both see the same jobs."""
    first, second = make(), make()
    assert first.lead()
    assert not second.lead()
    job = add(second)
    assert _claim(first).job_id == job.id
    first.folder.close()
    assert second.lead()
    assert _claim(second).attempt == 2


def test_files_that_belong_to_nothing_are_swept_away(make: Make) -> None:
    """Those of a process that was killed between a change of the file and one of the folder."""
    store = make()
    job = add(store, 2)
    finished = store.folder.clip(job.id, 0)
    claim = _claim(store)
    store.finish(claim, ANSWER, NOW)
    finished.write_bytes(b"not deleted yet")
    never_stored = store.folder.path / ("job_" + "0" * 28)
    never_stored.mkdir()
    (never_stored / "0").write_bytes(b"x")
    arriving = store.folder.path / "ahse-uploads-of-another"
    arriving.mkdir()
    assert store.lead()
    assert not finished.exists()
    assert not never_stored.exists()
    assert arriving.is_dir()
    assert store.folder.clip(job.id, 1).is_file()


def test_what_cannot_be_swept_away_now_stays(make: Make) -> None:
    """Another process may delete the same files, and a file system may put its own beside them."""
    store = make()
    job = add(store)
    (store.folder.path / job.id / ".nfs0001").write_bytes(b"a deleted file that somebody has open")
    gone, odd = (store.folder.path / f"job_{digit * 28}" for digit in "01")
    gone.symlink_to("nowhere")
    (odd / "a folder").mkdir(parents=True)
    assert store.lead()
    assert [path.name for path in (store.folder.path / job.id).iterdir()] == ["0"]
    assert odd.is_dir()


def test_a_process_that_could_not_take_up_the_work_tries_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what the one before was working on would never end."""
    first, second = make(), make()
    assert first.lead()
    add(first)
    _claim(first)
    first.folder.close()

    def fail(*_: object) -> None:
        raise StoreUnavailableError("the store can't answer now")

    with monkeypatch.context() as failing:
        failing.setattr(second.folder, "sweep", fail)
        with pytest.raises(StoreUnavailableError):
            second.lead()
    assert second.lead()
    assert _claim(second).attempt == 2


def test_an_attempt_counts_unless_the_service_was_stopped_in_order(store: JobStore) -> None:
    """So a clip that brings the service down is not begun for ever, and an update costs nothing."""
    add(store)
    store.release(_claim(store), is_tried=False)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        claim = _claim(store)
        assert claim.attempt == attempt
        store.release(claim, is_tried=True)


def test_a_clip_that_was_begun_anew_is_not_queued_by_who_had_it_before(store: JobStore) -> None:
    """Whose first try to give it back succeeded, without an answer."""
    add(store)
    before = _claim(store)
    store.release(before, is_tried=True)
    again = _claim(store)
    store.release(before, is_tried=True)
    assert store.claim(NOW) is None
    assert store.finish(again, ANSWER, NOW) is not None


def test_a_cancelled_job_keeps_what_it_has(store: JobStore) -> None:
    """The clip that is worked on then has no outcome, whatever its worker says; its file is gone."""
    job = add(store, 3)
    _work(store)
    claim = _claim(store)
    cancelled = store.cancel(job.id, NOW)
    assert (cancelled.state, cancelled.n_done, cancelled.expires) == ("cancelled", 1, NOW + DAY)
    assert store.unwanted([job.id, "job_unknown"]) == {job.id, "job_unknown"}
    assert store.finish(claim, ANSWER, NOW) is None
    assert [one.state for one in store.clips(job.id)] == ["done", "cancelled", "cancelled"]
    assert store.outcome(job.id, 0) == ANSWER
    assert not claim.path.parent.exists()
    assert store.claim(NOW) is None
    assert store.cancel(job.id, NOW + DAY) == cancelled


def test_a_job_that_runs_is_wanted(store: JobStore) -> None:
    """Its work must not be stopped."""
    job = add(store)
    assert store.unwanted([job.id]) == set()
    _claim(store)
    assert store.unwanted([job.id]) == set()


def test_a_deleted_job_is_forgotten_with_its_files(store: JobStore) -> None:
    """Also while it is worked on."""
    job = add(store)
    claim = _claim(store)
    store.delete(job.id)
    assert not claim.path.exists()
    assert store.finish(claim, ANSWER, NOW) is None
    for ask in (store.get, store.clips, store.delete):
        with pytest.raises(UnknownJobError):
            ask(job.id)
    assert store.usage().n_bytes == 0


def test_results_expire_and_later_the_record_too(store: JobStore) -> None:
    """An idempotency key is free again from then on. Unfinished jobs don't expire."""
    job = add(store, idempotency_key="once")
    waiting = add(store)
    _work(store)
    assert store.expire(NOW + DAY - timedelta(seconds=1)) == []
    assert store.expire(NOW + DAY) == [job.id]
    expired = store.get(job.id)
    assert (expired.state, expired.expires) == ("expired", NOW + 2 * DAY)
    assert store.outcome(job.id, 0) is None
    assert store.find("", "once") is None
    assert store.expire(NOW + 2 * DAY) == [job.id]
    with pytest.raises(UnknownJobError):
        store.get(job.id)
    assert store.get(waiting.id).state == "queued"


def test_the_same_idempotency_key_is_the_same_job_for_one_owner(store: JobStore) -> None:
    """What was sent the second time is not kept; another owner may use the same words."""
    job = add(store, owner="a", idempotency_key="once")
    assert add(store, 2, owner="a", idempotency_key="once") == job
    assert add(store, owner="b", idempotency_key="once").id != job.id
    assert store.find("a", "once") == job
    assert len(store.page(None, "", 10)) == 2


def test_jobs_are_listed_the_latest_first_by_owner(store: JobStore) -> None:
    """A page at a time."""
    ids = [add(store, owner=owner).id for owner in ("a", "b", "a")]
    assert [job.id for job in store.page(None, "", 2)] == ids[:0:-1]
    assert [job.id for job in store.page(None, ids[1], 2)] == [ids[0]]
    assert [job.id for job in store.page("a", "", 5)] == [ids[2], ids[0]]


def test_the_number_and_bytes_of_jobs_are_bounded(make: Make) -> None:
    """Clips, forms and results count; what is refused leaves nothing behind."""
    store = make(JobLimits(max_jobs=2, max_bytes=1000, kept_for=DAY))
    job = add(store, size=400)
    with pytest.raises(OverloadedError, match="as many jobs"):
        add(store, size=600)
    assert [path.name for path in store.folder.path.glob("job_*")] == [job.id]
    add(store, size=10)
    with pytest.raises(OverloadedError):
        add(store, size=10)
    with pytest.raises(OverloadedError, match="as many jobs"):  # already before its clips arrive
        store.check_room("", None)
    assert store.lead()
    used = store.usage()
    assert used.n_unfinished == 2
    _work(store, Outcome("answer", '"' + "x" * 98 + '"'))
    assert store.usage().n_bytes < used.n_bytes
    store.delete(job.id)
    store.check_room("", None)
    add(store, size=400)


def test_an_answer_without_room_is_refused_but_a_problem_is_kept(make: Make) -> None:
    """Else many small clips with long answers would fill the disk."""
    store = make(JobLimits(max_jobs=2, max_bytes=300, kept_for=DAY))
    add(store)
    assert store.lead()
    claim = _claim(store)
    with pytest.raises(OverloadedError, match="no room"):
        store.finish(claim, Outcome("answer", "x" * 1000), NOW)
    assert store.finish(claim, PROBLEM, NOW) is not None


def test_a_key_has_its_own_quota_of_jobs(store: JobStore) -> None:
    """Others are not concerned."""
    add(store, owner="a", max_owned=1)
    with pytest.raises(QuotaExceededError, match="may have 1 jobs"):
        add(store, owner="a", max_owned=1)
    with pytest.raises(QuotaExceededError, match="may have 1 jobs"):
        store.check_room("a", 1)
    store.check_room("b", 1)
    add(store, owner="b", max_owned=1)


def test_reports_are_due_at_the_end_and_again_after_a_pause(store: JobStore) -> None:
    """Whoever claims one need not say more; six attempts are planned. The secret is forgotten at the end."""
    hook = Webhook("https://example.org/hook", "whsec_x")
    for _ in range(2):
        add(store, webhook=hook)
    assert store.claim_webhooks(NOW, 10, []) == []
    job, now = _work(store), NOW
    assert job.webhook == "pending"
    for attempt, seconds in enumerate((5, 60, 600, 3600, 6 * 3600, 6 * 3600), start=1):
        (due,) = store.claim_webhooks(now, 10, [])
        assert (due.job, due.webhook, due.attempt, due.is_last) == (job, hook, attempt, attempt == 6)
        assert store.claim_webhooks(now + timedelta(seconds=seconds - 1), 10, []) == []
        now += timedelta(seconds=seconds)
    store.finish_webhook(job.id, "delivered")
    assert store.claim_webhooks(now, 10, []) == []
    given_up = _work(store)
    store.finish_webhook(given_up.id, "failed")
    ended = [store.get(one.id) for one in (job, given_up)]
    assert [one.webhook for one in ended] == ["delivered", "failed"]
    assert ended[0].version > job.version
    assert "None" in str(_secrets(store))
    assert "whsec_x" not in str(_secrets(store))


def test_the_longest_due_reports_are_claimed_first(store: JobStore) -> None:
    """So many as can be sent at once."""
    for _ in range(3):
        add(store, webhook=Webhook("https://example.org/hook", "whsec_x"))
    ids = [_work(store, now=NOW + timedelta(seconds=seconds)).id for seconds in (2, 0, 1)]
    later = NOW + DAY / 2
    assert [due.job.id for due in store.claim_webhooks(later, 2, [])] == [ids[1], ids[2]]
    assert [due.job.id for due in store.claim_webhooks(later, 2, [])] == [ids[0]]


def test_new_reports_are_claimed_before_repeats(store: JobStore) -> None:
    """So a receiver that does not answer keeps no other one waiting."""
    for _ in range(2):
        add(store, webhook=Webhook("https://example.org/hook", "whsec_x"))
    silent = _work(store)
    store.claim_webhooks(NOW, 1, [])
    new = _work(store, now=NOW + timedelta(seconds=10))
    due = [store.claim_webhooks(NOW + timedelta(seconds=10), 1, [])[0].job.id for _ in range(2)]
    assert due == [new.id, silent.id]


def test_owners_share_the_reports_that_are_sent_at_once(store: JobStore) -> None:
    """So the receivers of one, which may hang, do not hold up those of others."""
    many = [add(store, owner="many", webhook=Webhook("https://slow.example/", "whsec_x")) for _ in range(4)]
    one = add(store, owner="one", webhook=Webhook("https://example.org/hook", "whsec_x"))
    later = NOW + timedelta(seconds=1)
    while (claim := store.claim(NOW)) is not None:
        store.finish(claim, ANSWER, later if claim.job_id == one.id else NOW)
    due = [store.claim_webhooks(later, n, sending) for n, sending in ((2, []), (1, ["many"]), (9, []))]
    assert [[each.job.id for each in group] for group in due] == [
        [many[0].id, one.id],
        [many[1].id],
        [many[2].id, many[3].id],
    ]


def _secrets(store: JobStore) -> object:
    if isinstance(store, SqliteJobStore):
        with store._database.reading() as connection:
            return connection.execute("SELECT secret FROM webhooks").fetchall()
    return store._database.ask("SELECT array_agg(secret) FROM job_webhooks")  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", ["rename", "sync"])
def test_a_job_that_cannot_be_moved_in_is_not_kept(
    store: JobStore, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The row and the files come together, or not at all."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if what == "rename":
        monkeypatch.setattr(os, "rename", full)
        monkeypatch.setattr(Path, "rename", full)
    else:
        monkeypatch.setattr("service.jobs.folder.sync", full)
    with pytest.raises(StoreUnavailableError, match="try again later"):
        add(store)
    assert store.page(None, "", 10) == []
    assert list(store.folder.path.glob("job_*")) == []
