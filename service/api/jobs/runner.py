"""Work on jobs behind ordinary requests: one clip after the other, until the service ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Literal, TypeVar

import structlog
from starlette.requests import ClientDisconnect

from service.api.context import Context
from service.api.intake.fetch import Fetcher
from service.api.intake.upload import URL_FIELD, Upload
from service.api.jobs.webhooks import WebhookSender
from service.api.middleware import JOBS
from service.api.problems import line_problem
from service.api.question import Question
from service.api.thread_pool import ThreadPool
from service.cancellation import CancellationToken
from service.classifier import Classifier
from service.decode.pool import DecodePool
from service.embed.embedder import LabelEmbedder
from service.errors import (
    AhseError,
    ClipLostError,
    JobInterruptedError,
    OverloadedError,
    RequestTimeoutError,
    UnavailableError,
)
from service.jobs.job import MAX_ATTEMPTS, Claim, Delivery, Outcome, WebhookEnd
from service.settings import Settings

_log = structlog.get_logger(__name__)
T = TypeVar("T")

# How often the store is looked at for what other processes have done, and for what is due.
TICK_S = 1.0
# How long a clip of a job gives way to ordinary requests.
PATIENCE_S = 30.0
_MAX_DELIVERIES = 8
# Decoding processes of requests for one of jobs, which stands far behind them for processor time.
_DECODERS_PER_WORKER = 4
_NICENESS = 10


class JobRunner:
    """Works on the jobs of the store, if no other process does.

    A clip of a job is begun when fewer clips of requests are worked on than can be decoded at once, or
    after a while all the same, so that jobs go on under permanent load. It has a decoding process and a
    thread of its own, and takes no place of a request.

    Args:
        context: The parts of the service.
        settings: Of the deployment, with the deadline of jobs.
        embedder: Embeds names.
        fetcher: Fetches clips from URLs; None: not allowed.
    """

    def __init__(
        self,
        context: Context,
        settings: Settings,
        embedder: LabelEmbedder,
        fetcher: Fetcher | None,
    ) -> None:
        self._requests = context.clip_workers
        self._n_decoders = min(settings.decode_workers, settings.max_concurrency)
        self._n_workers = max(1, self._n_decoders // _DECODERS_PER_WORKER)
        self._decoder = DecodePool(settings.job_decode_limits(), self._n_workers, niceness=_NICENESS)
        self._context = replace(
            context,
            settings=settings,
            classifier=Classifier(self._decoder.decode, embedder, tracing=context.tracing),
            clip_workers=ThreadPool("job", self._n_workers),
            fetcher=fetcher,
        )
        self._board = context.jobs
        self._is_leader = False
        self._is_closing = False
        self._failing = set[str]()
        self._ended = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._deliveries: dict[asyncio.Task[None], str] = {}

    def start(self) -> None:
        """Begin, on the running event loop."""
        loops = [("tick", self._tick_always), ("deliver", self._deliver_always)]
        loops += [("work", self._work_always)] * self._n_workers
        self._tasks = [asyncio.create_task(self._forever(*one)) for one in loops]

    async def close(self) -> None:
        """Stop; clips under way are queued again."""
        self._is_closing = True
        tasks = [*self._tasks, *self._deliveries]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._decoder.close()
        self._context.clip_workers.close()

    async def tick(self) -> None:
        """Do what the time or another process makes necessary."""
        store, now = self._board.store, self._board.clock()
        if not self._is_leader:
            self._is_leader = await self._change(store.lead)
        usage = await self._change(self._board.usage)
        # Of the workers of a service one counts them, so that the sum is right.
        self._context.metrics.jobs(usage.n_unfinished if self._is_leader else 0)
        self._board.arriving.set_stored(usage.n_bytes)
        if self._is_leader:
            await self._change(partial(store.expire, now))
        running = [job_id for job_id, _ in self._board.running]
        for job_id in await self._change(partial(store.unwanted, running)):
            self._board.stop(job_id)
        self._ended.set()
        self._board.look_again()

    async def _change(self, change: Callable[[], T]) -> T:
        return await self._context.job_writer.run(change)

    async def _change_at_last(self, change: Callable[[], T]) -> T:
        """Change the store, also if it does not answer for a while."""
        while True:
            try:
                changed = await self._change(change)
                self._note_success("change")
                return changed
            except OverloadedError:
                raise
            except AhseError as error:
                self._note_failure("change", error)
                await asyncio.sleep(TICK_S)

    async def _forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step, whatever becomes of it."""
        # A step may take its cancellation for that of the job it works on, and just end.
        while not self._is_closing:
            try:
                await step()
            except Exception as error:  # noqa: BLE001  (most often the store does not answer now)
                self._note_failure(name, error)
                await asyncio.sleep(TICK_S)
            else:
                self._note_success(name)

    def _note_failure(self, step: str, error: Exception) -> None:
        """Log it once until the step succeeds again; where the store does not answer, once for all steps."""
        if step not in self._failing and not (self._failing and isinstance(error, AhseError)):
            code = error.code if isinstance(error, AhseError) else AhseError.code
            _log.error("jobs_unavailable", step=step, code=code, exc_info=error)
        self._failing.add(step)

    def _note_success(self, step: str) -> None:
        if step in self._failing:
            self._failing.remove(step)
            if not self._failing:
                _log.info("jobs_available_again")

    async def _tick_always(self) -> None:
        await self.tick()
        await asyncio.sleep(TICK_S)

    async def _work_always(self) -> None:
        self._board.added.clear()
        claim = None
        if self._is_leader:
            await self._requests.fewer_than(self._n_decoders, PATIENCE_S)
            claim = await self._change(partial(self._board.store.claim, self._board.clock()))
        if claim is None:
            await self._board.added.wait()
            return
        self._board.changed(claim.job_id)
        with structlog.contextvars.bound_contextvars(job=claim.job_id, clip=claim.index):
            await self._work_on(claim)

    async def _work_on(self, claim: Claim) -> None:
        token = CancellationToken()
        timeout_s = self._context.settings.request_timeout_s
        deadline = asyncio.get_running_loop().call_later(timeout_s, token.cancel, "deadline")
        self._board.running[claim.job_id, claim.index] = token
        try:
            with token.active():
                outcome = await self._outcome(claim)
        except asyncio.CancelledError:  # the service ends
            token.cancel("cancelled")
            await self._change(partial(self._board.store.release, claim, is_tried=False))
            raise
        finally:
            deadline.cancel()
            del self._board.running[claim.job_id, claim.index]
        if outcome == "again":
            await self._change_at_last(partial(self._board.store.release, claim, is_tried=True))
            await asyncio.sleep(TICK_S)
        elif outcome != "cancelled":
            await self._finish(claim, outcome)

    async def _outcome(self, claim: Claim) -> Outcome | Literal["cancelled", "again"]:
        """What becomes of a clip, unless its job was cancelled, or it has to be begun again."""
        try:
            if claim.attempt > MAX_ATTEMPTS:
                raise JobInterruptedError(
                    f"Work on this clip was begun {MAX_ATTEMPTS} times and broken off each time, since the "
                    "service ended or a part of it failed. Try the clip in a job of its own."
                )
            answered = await self._ask(claim)
        except ClientDisconnect:
            return "cancelled"
        except Exception as error:  # noqa: BLE001  (one clip must not end the work on all others)
            is_passing = isinstance(error, UnavailableError) and not isinstance(error, RequestTimeoutError)
            if is_passing and claim.attempt < MAX_ATTEMPTS:
                return "again"
            return self._problem(claim, error)
        return Outcome("answer", answered)

    async def _ask(self, claim: Claim) -> str:
        """JSON of the answer, by the same path as that of a request."""
        with self._context.tracing.step("job clip"), self._upload(claim) as upload:
            question = Question(self._context, claim.fields, _id_of(claim))
            return (await question.ask(upload, claim.index)).text

    @contextmanager
    def _upload(self, claim: Claim) -> Iterator[Upload]:
        """The clip as one that has come; one at a URL comes to where other workers count it."""
        arriving, url = self._board.arriving, dict(claim.fields).get(URL_FIELD)
        if url is not None:
            with arriving.private() as private:
                yield Upload(private.path / "clip", private.share, claim.fields, url)
            return
        if not claim.path.exists():
            raise ClipLostError(
                "The file of this clip is gone: the replica of the service that took it is gone for good, or "
                "its disk was cleared. Send the clip again in a new job."
            )
        with arriving.share() as share:
            yield Upload(claim.path, share, claim.fields, None)

    def _problem(self, claim: Claim, error: Exception) -> Outcome:
        problem = line_problem(error, f"{JOBS}/{claim.job_id}", _id_of(claim))
        return Outcome("problem", json.dumps({"index": claim.index, **problem}))

    async def _finish(self, claim: Claim, outcome: Outcome) -> None:
        """Keep what became of a clip."""
        store, clock = self._board.store, self._board.clock
        try:
            job = await self._change_at_last(lambda: store.finish(claim, outcome, clock()))
        except OverloadedError as error:
            outcome = self._problem(claim, error)
            job = await self._change_at_last(lambda: store.finish(claim, outcome, clock()))
        self._context.metrics.job_clip(outcome.member)
        if job is not None:
            self._board.changed(job.id)
            if not job.is_unfinished:
                _log.info("job_ended", state=job.state, n_clips=job.n_clips, n_failed=job.n_failed)
                self._ended.set()

    async def _deliver_always(self) -> None:
        """Report the ends of jobs that are due, several at once; owners share them."""
        self._ended.clear()
        sent = [task for task in self._deliveries if task.done()]
        for task in sent:
            del self._deliveries[task]
        for failure in await asyncio.gather(*sent, return_exceptions=True):
            if isinstance(failure, Exception):
                raise failure
        n_free = _MAX_DELIVERIES - len(self._deliveries)
        if self._is_leader and self._board.sender is not None and n_free:
            store, now = self._board.store, self._board.clock()
            # Claimed first: while that fails none is sent, else the same would be sent again and again.
            sending = list(self._deliveries.values())
            for due in await self._change(partial(store.claim_webhooks, now, n_free, sending)):
                task = asyncio.create_task(self._deliver(due, self._board.sender))
                task.add_done_callback(lambda _: self._ended.set())
                self._deliveries[task] = due.job.owner
        await self._ended.wait()

    async def _deliver(self, due: Delivery, sender: WebhookSender) -> None:
        """Send one report; unless that ends it, it is due again after its pause."""
        sent = await sender.send(due, self._board.clock())
        _log.info("webhook", job=due.job.id, attempt=due.attempt, outcome=sent.reason)
        if sent.is_final or due.is_last:
            end: WebhookEnd = "delivered" if sent.is_delivered else "failed"
            await self._change_at_last(partial(self._board.store.finish_webhook, due.job.id, end))
            self._board.changed(due.job.id)


def _id_of(claim: Claim) -> str:
    """What stands for the id of a request in answers."""
    return f"{claim.job_id}.{claim.index}"
