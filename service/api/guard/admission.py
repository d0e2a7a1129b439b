"""Admission: how much of requests and answers the service holds at once, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.guard.byte_budget import SMALL_BYTES, ByteBudget
from service.api.headers import declared_length
from service.api.middleware import CLASSIFY, EMBEDDINGS, JOBS, refuse
from service.cancellation import CancellationToken
from service.errors import AhseError, BodyTooLargeError, OverloadedError, UploadStalledError

# Before that, no body is called slow.
_GRACE_S = 5.0
# The same where others wait for its place.
_SHORT_GRACE_S = 1.0
_WITH_BODY = ("POST", "PUT", "PATCH")
Places = Literal["clips", "jobs"]
"""What an upload takes a place of."""


@dataclass(frozen=True)
class BodyBounds:
    """What the bodies of requests may take.

    Attributes:
        max_upload_bytes: Maximum size of an upload, which is written to disk.
        max_json_bytes: Maximum size of any other body.
        max_job_bytes: The same for a job.
        max_clips: Maximum number of requests with clips, from their first byte to the end of the answer.
        max_jobs: Maximum number of requests that bring jobs, likewise.
        pause_s: Longest pause in a body.
        body_timeout_s: Longest time for a whole body.
        min_bytes_per_s: Lowest average rate of a body, counted while the service waits for it.
        request_timeout_s: Longest time from the end of the body to the answer.
    """

    max_upload_bytes: int
    max_json_bytes: int
    max_job_bytes: int
    max_clips: int
    max_jobs: int
    pause_s: float
    body_timeout_s: float
    min_bytes_per_s: int
    request_timeout_s: float


class Admission:
    """Lets a request in, or refuses it before its body is read; bounds its body and the time of its answer.

    - A request with a clip takes one of a number of places, which bounds the uploads on disk as well as the
      waiting work; one with a job has places of its own. Any other large body is held in memory, and takes
      its length of one budget; so do large fields of a form while they arrive (`intake`), and large answers
      until their client has read them.
    - A body may not stop, take too long, or be slower than a minimum rate. Where there is no room, the
      slowest body below that rate has to give way at once, so clients that trickle can't keep others out.
    - The token of the request is cancelled when its answer takes too long.

    Args:
        app: The application behind.
        bounds: What bodies may take.
        budget: Bytes in memory.
    """

    def __init__(self, app: ASGIApp, bounds: BodyBounds, budget: ByteBudget) -> None:
        self._app = app
        self._bounds = bounds
        self._budget = budget
        self._open: set[_Request] = set()
        self._n_taken: Counter[Places] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(scope, receive, send, self._bounds, self._budget)
        try:
            self._let_in(request)
        except (BodyTooLargeError, OverloadedError) as error:
            await refuse(scope, receive, send, error)
            return
        try:
            with request.token.active(), contextlib.suppress(_Refused):
                await self._app(scope, request.receive, request.send)
            if request.fault is not None and not request.is_answered:
                await refuse(scope, receive, send, request.fault)
        except asyncio.CancelledError:  # threads that work on it are not told otherwise
            request.token.cancel()
            raise
        finally:
            self._let_out(request)
            request.close()

    def _let_in(self, request: _Request) -> None:
        request.check_declared_length()
        if (kind := request.takes) is not None:
            n_places = self._bounds.max_clips if kind == "clips" else self._bounds.max_jobs
            if self._n_taken[kind] >= n_places and not self._evict(lambda one: one.takes == kind):
                raise OverloadedError(f"The service has as many {kind} as it can take; try again later.")
            self._n_taken[kind] += 1
        else:
            while self._budget.n_free < request.n_reserved and self._evict(lambda one: one.n_reserved > 0):
                pass
            self._budget.take(request.n_reserved)
        self._open.add(request)

    def _let_out(self, request: _Request) -> None:
        if request in self._open:
            self._open.remove(request)
            if request.takes is not None:
                self._n_taken[request.takes] -= 1
            self._budget.give_back(request.n_reserved)

    def _evict(self, is_eligible: Callable[[_Request], bool]) -> bool:
        """End the slowest body of a kind, if it is below the minimum rate; whether there was one."""
        slow = [one for one in self._open if is_eligible(one) and one.is_slow()]
        if not slow:
            return False
        slowest = min(slow, key=lambda one: one.bytes_per_s)
        slowest.give_way()
        self._let_out(slowest)
        return True


def lift_deadline(scope: Scope) -> None:
    """Let an answer take any time from now on: what it streams begins, and is bounded in another way."""
    scope["state"]["lift_deadline"]()


class _Refused(Exception):  # noqa: N818  (a signal between the two halves of Admission, not an error)
    """Ends the reading of a body."""


class _Request:
    """The body of one request while it arrives, and its answer."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, bounds: BodyBounds, budget: ByteBudget
    ) -> None:
        self._receive, self._send = receive, send
        self._bounds, self._budget = bounds, budget
        self.token = CancellationToken()
        self.takes = _place_of(scope)
        limits = {"clips": bounds.max_upload_bytes, "jobs": bounds.max_job_bytes, None: bounds.max_json_bytes}
        self._limit = limits[self.takes]
        headers = Headers(scope=scope)
        self._declared = declared_length(headers)
        has_body = self._declared != 0 and (
            scope["method"] in _WITH_BODY or "content-length" in headers or "transfer-encoding" in headers
        )
        # A length that is not known is taken for the largest one.
        n_expected = self._limit if self._declared is None else self._declared
        is_counted = has_body and self.takes is None and n_expected > SMALL_BYTES
        self.n_reserved = n_expected if is_counted else 0
        self._started = time.monotonic()
        self._waited_before_s = 0.0
        self._waits_since: float | None = None
        self._n_bytes = 0
        self._is_whole = False
        self._waiting: asyncio.Timeout | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._has_deadline = True
        scope.setdefault("state", {})["lift_deadline"] = self._lift_deadline
        self._start: Message | None = None
        self.fault: AhseError | None = None
        self.is_answered = False
        if not has_body:  # it may never be asked for
            self._start_deadline()

    def check_declared_length(self) -> None:
        """Raise BodyTooLargeError when the header says so already."""
        if self._declared is not None and self._declared > self._limit:
            raise self._too_large()

    @property
    def bytes_per_s(self) -> float:
        """Average rate of the body so far, counted while the service waits for it."""
        return self._n_bytes / max(self._waited_s(), 1e-3)

    def is_slow(self) -> bool:
        """Whether the body has to give way to others."""
        enough = self._bounds.min_bytes_per_s * self._waited_s()
        return not self._is_whole and self._waited_s() > _SHORT_GRACE_S and self._n_bytes < enough

    def give_way(self) -> None:
        """End the body, as if it had stopped."""
        self.fault = UploadStalledError("The body arrived too slowly while others waited; send it again.")
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> Message:
        """The next message. Behind the body only the disconnect follows, which may take any time."""
        if self.fault is not None:  # it gave way while the service was busy with what it had sent
            raise _Refused
        if self._is_whole:
            return await self._receive()
        patience_s, self._waits_since = self._patience_s(), time.monotonic()
        try:
            if patience_s <= 0:  # what is there already would still be taken
                raise TimeoutError
            async with asyncio.timeout(patience_s) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            self.fault = self.fault or UploadStalledError(
                "The body stopped, or arrived too slowly; send it again over a better connection."
            )
            raise _Refused from None
        finally:
            self._waited_before_s, self._waits_since, self._waiting = self._waited_s(), None, None
        self._n_bytes += len(message.get("body", b""))
        if self._n_bytes > self._limit:
            self.fault = self._too_large()
            raise _Refused
        if not message.get("more_body", False):
            self._is_whole = True
            self._start_deadline()
        return message

    def _patience_s(self) -> float:
        """How long to wait for more: the shortest of the pause, the rest of the whole time, and the rate."""
        bounds = self._bounds
        rest_s = bounds.body_timeout_s - (time.monotonic() - self._started)
        behind_s = _GRACE_S + self._n_bytes / bounds.min_bytes_per_s - self._waited_s()
        return min(bounds.pause_s, rest_s, behind_s)

    def _waited_s(self) -> float:
        """How long the service has waited for the body, without the time in which it was busy itself."""
        now = time.monotonic()
        return self._waited_before_s + (0.0 if self._waits_since is None else now - self._waits_since)

    def _start_deadline(self) -> None:
        """From now on the time of the answer counts."""
        if self._deadline is None and self._has_deadline:
            self._deadline = asyncio.get_running_loop().call_later(
                self._bounds.request_timeout_s, self.token.cancel, "deadline"
            )

    def _lift_deadline(self) -> None:
        self._has_deadline = False
        self.close()

    async def send(self, message: Message) -> None:
        """Pass the answer on, unless the body was refused meanwhile."""
        if self.fault is not None:
            return
        if message["type"] == "http.response.start":
            self._start = message  # held back until it is known that the body of the answer has room
            return
        n_bytes = len(message.get("body", b""))
        # One that is larger than the whole budget takes all of it: it would never have room.
        n_counted = min(n_bytes, self._budget.capacity) if n_bytes > SMALL_BYTES else 0
        if self._start is not None:
            try:
                self._budget.take(n_counted)
            except OverloadedError as error:
                self.fault = error
                raise _Refused from None
            self.is_answered = True
            await self._send(self._start)
            self._start = None
        else:
            n_counted = 0
        try:
            if n_counted:
                # The server waits for slow readers before it takes the next part, not after the last one.
                await self._send({**message, "more_body": True})
                message = {**message, "body": b""}
            await self._send(message)
        finally:
            self._budget.give_back(n_counted)

    def close(self) -> None:
        """The request has ended."""
        if self._deadline is not None:
            self._deadline.cancel()

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"The body is larger than the {self._limit} bytes that this address accepts."
        )


def _place_of(scope: Scope) -> Places | None:
    if scope["path"] in (CLASSIFY, EMBEDDINGS):
        return "clips"
    return "jobs" if scope["path"] == JOBS and scope["method"] == "POST" else None
