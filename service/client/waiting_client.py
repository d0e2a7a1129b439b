"""`Client`: every method waits for its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from service.client import protocol
from service.client.answers import Answer
from service.client.connection import Connection, check_clips
from service.client.errors import ServiceError
from service.client.protocol import Call, Question
from service.client.tries import read_answer
from service.client.upload import ClipSource, Progress, Upload, opened, rewind
from service.client.values import (
    Health,
    Info,
    Job,
    JobResult,
    Label,
    LabelSet,
    LabelSetSummary,
    Model,
)

Value = TypeVar("Value")


class Client(Connection):
    """A service of this package over HTTP. Safe to use from several threads; close it, or use it in `with`.

    Every method raises ServiceError when the service answers with an error, UnreachableError and
    ConnectionLostError when it does not answer, and InvalidArgumentError for what no service would accept.

    Args:
        url: Address of the service, with the path under which a proxy has put it, if any.
        key: API key; None takes that of the environment variable AHSE_API_KEY, and "" sends none.
        timeout_s: Longest silence while the service works: a little more than it allows itself (120 s).
        retries: Tries after the first, when the service is overloaded or not ready (429, 502, 503, 504), or
            the connection is lost. What may have been carried out is sent again only where that changes
            nothing.
        max_wait_s: Longest wait between two tries; where the service asks for more (Retry-After), its error
            is raised at once.
        max_connections: Requests at a time; those beyond wait for a connection, as long as it takes. What a
            service does not take at a time it refuses as overloaded.
        verify: Certificates to trust instead of the system's.
        transport: Of httpx2, for tests.

    Raises:
        InvalidArgumentError: The URL or the key can't be meant.
    """

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx2.Client(**options)
        self._sleep: Callable[[float], object] = time.sleep

    def classify(
        self,
        clip: ClipSource | None = None,
        *,
        progress: Progress | None = None,
        **question: Unpack[Question],
    ) -> Answer:
        """Rank candidate names for one clip.

        Args:
            clip: A path, bytes, or a file that is open for reading bytes.
            progress: Called with the bytes that were sent and their total.
            question: The names, and the options of `Question`.

        Raises:
            OSError: The path can't be read.
        """
        clips = [] if clip is None else [clip]
        check_clips(clips, question)
        call = protocol.classify(question)
        with opened(clips, progress) as uploads:
            return self._send(call, uploads)

    def info(self) -> Info:
        """The service's version, bundles and limits."""
        return self._send(protocol.info())

    def models(self) -> list[Model]:
        """All loaded bundles, the default first."""
        return self._send(protocol.models())

    def model(self, name: str) -> Model:
        """One loaded bundle."""
        return self._send(protocol.model(name))

    def health(self) -> Health:
        """Whether the service works now; asked once."""
        try:
            return self._send(protocol.health())
        except ServiceError as error:
            return protocol.not_ready(error)

    def label_sets(self) -> Iterator[LabelSetSummary]:
        """All label sets in order of name, read page by page."""
        cursor: str | None = None
        while True:
            page, cursor = self._send(protocol.label_set_page(cursor))
            yield from page
            if cursor is None:
                return

    def label_set(self, name: str) -> LabelSet:
        """One label set with all its labels."""
        return self._send(protocol.get_label_set(name))

    def label_set_if_changed(self, name: str, etag: str) -> LabelSet | None:
        """One label set; None if it still has that etag."""
        return self._send(protocol.get_label_set_if_changed(name, etag))

    def put_label_set(
        self,
        name: str,
        labels: Sequence[str | Label],
        *,
        templates: Sequence[str] | None = None,
        guarantee: float | None = None,
        if_match: str | None = None,
        is_new: bool = False,
        warm: bool = False,
    ) -> LabelSetSummary:
        """Create a label set, or replace all of one.

        Args:
            name: Of the set.
            labels: Names, or labels with prompts of their own.
            templates: Prompt templates instead of the bundle's.
            guarantee: Of requests with the set that have none of their own, 0.5 to 0.99.
            if_match: Only if the set still has this etag.
            is_new: Only if there is no set of that name.
            warm: Let the service embed new labels at once, behind requests, with its default bundle.
        """
        call = protocol.put_label_set(name, labels, templates, guarantee, if_match, is_new=is_new, warm=warm)
        return self._send(call)

    def add_labels(
        self,
        name: str,
        labels: Sequence[str | Label],
        *,
        if_match: str | None = None,
        warm: bool = False,
    ) -> LabelSetSummary:
        """Add labels to a set; the next request already ranks them. See `put_label_set` for the arguments."""
        return self._send(protocol.add_labels(name, labels, if_match, warm=warm))

    def remove_label(self, name: str, label: str, *, if_match: str | None = None) -> LabelSetSummary:
        """Take one label out of a set."""
        return self._send(protocol.remove_label(name, label, if_match))

    def delete_label_set(self, name: str, *, if_match: str | None = None) -> None:
        """Delete a label set."""
        self._send(protocol.delete_label_set(name, if_match))

    def create_job(
        self,
        clips: Sequence[ClipSource] = (),
        *,
        webhook: str | None = None,
        webhook_secret: str | None = None,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
        **question: Unpack[Question],
    ) -> Job:
        """Send clips that are worked on behind requests; the same is asked of each.

        Args:
            clips: As for `classify`.
            webhook: URL to which the end is reported, where the service allows it.
            webhook_secret: Signs the report: whsec_ and base64.
            idempotency_key: Your own name for this job: sent again, it returns the same job. None makes one
                up, so that a lost connection never makes two jobs of one call.
            progress: Called with the bytes that were sent and their total, of all clips together.
            question: The names, and the options of `Question`.

        Raises:
            OSError: A path can't be read.
        """
        check_clips(clips, question)
        call = protocol.create_job(question, webhook, webhook_secret, idempotency_key)
        with opened(clips, progress) as uploads:
            return self._send(call, uploads)

    def jobs(self) -> Iterator[Job]:
        """Your jobs, the latest first, read page by page; an admin key has all."""
        cursor: str | None = None
        while True:
            page, cursor = self._send(protocol.job_page(cursor))
            yield from page
            if cursor is None:
                return

    def job(self, job_id: str) -> Job:
        """One job with its clips."""
        return self._send(protocol.get_job(job_id))

    def wait_for_job(
        self, job_id: str, *, every_s: float = 2.0, progress: Callable[[Job], object] | None = None
    ) -> Job:
        """The job once it has ended, be it done, failed or cancelled.

        Args:
            job_id: The job.
            every_s: Seconds between two looks.
            progress: Called with the job at each look.
        """
        while True:
            job = self._send(protocol.get_job(job_id))
            if progress is not None:
                progress(job)
            if job.has_ended:
                return job
            self._sleep(every_s)

    def job_results(self, job_id: str) -> list[JobResult]:
        """What has come of each clip that is done so far, in the order sent."""
        return self._send(protocol.job_results(job_id))

    def cancel_job(self, job_id: str) -> Job:
        """End the work on a job; its results so far stay until it expires."""
        return self._send(protocol.cancel_job(job_id))

    def delete_job(self, job_id: str) -> None:
        """End the work on a job, and delete it with its results."""
        self._send(protocol.delete_job(job_id))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, call: Call[Value], uploads: Sequence[Upload] = ()) -> Value:
        tries = self._tries(call, uploads)
        while True:
            try:
                response = self._http.request(**call.arguments(uploads))
            except httpx2.RequestError as error:
                wait_s = tries.wait_after_failure(error)
            else:
                again = tries.wait_after(response)
                if again is None:
                    return read_answer(call, response)
                wait_s = again
            rewind(uploads)
            self._sleep(wait_s)
