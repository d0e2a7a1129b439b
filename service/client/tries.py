"""When to send a request again, and what went wrong where that did not help. No input or output here."""

from __future__ import annotations

import random
import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Generic, TypeVar

import httpx2

from service.client.errors import ClientError, ConnectionLostError, ServiceError, UnreachableError
from service.client.protocol import Call
from service.client.upload import Upload

Value = TypeVar("Value")

# Refused before any work, so that sending it again is always safe.
_REFUSED = {HTTPStatus.TOO_MANY_REQUESTS}
# Perhaps carried out. 502 is of a proxy, while the service behind it restarts.
_PASSING = {HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0
# Characters of a foreign error text that are shown.
_MAX_FOREIGN = 200


class Tries(Generic[Value]):
    """The tries of one call: takes what came of each, and says how long to wait before the next.

    Args:
        call: The request.
        uploads: Its clips.
        base_url: Of the service, for messages.
        retries: Maximum number of tries after the first.
        max_wait_s: A service that asks for a longer wait is not waited for.
    """

    def __init__(
        self, call: Call[Value], uploads: Sequence[Upload], base_url: str, retries: int, max_wait_s: float
    ) -> None:
        self._call = call
        self._can_repeat = call.retry and all(upload.can_repeat for upload in uploads)
        self._base_url = base_url
        self._retries = retries
        self._n_repeated = 0
        self._max_wait_s = max_wait_s

    def wait_after(self, response: httpx2.Response) -> float | None:
        """Seconds to wait before the next try; None: this answer counts.

        Args:
            response: Read to its end.
        """
        status = response.status_code
        if not (status in _REFUSED or (status in _PASSING and self._call.is_safe)):
            return None
        asked_s = _retry_after_s(response)
        if not self._may_go_on() or (asked_s is not None and asked_s > self._max_wait_s):
            return None
        wait_s = self._next_wait_s()
        return wait_s if asked_s is None else asked_s

    def wait_after_failure(self, error: httpx2.RequestError) -> float:
        """Seconds to wait before the next try.

        Raises:
            ClientError: There is no next one; says what happened.
        """
        never_sent = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
        # A service that was silent for so long once would be again.
        is_final = isinstance(error, (httpx2.ReadTimeout, httpx2.DecodingError)) or _distrusts(error)
        if is_final or not (never_sent or self._call.is_safe) or not self._may_go_on():
            raise _explain(error, self._base_url, self._n_repeated + 1) from error
        return self._next_wait_s()

    def _may_go_on(self) -> bool:
        return self._can_repeat and self._n_repeated < self._retries

    def _next_wait_s(self) -> float:
        """Twice as long each time, and not the same for all clients of a service that comes back."""
        longest = min(_FIRST_WAIT_S * 2**self._n_repeated, _LONGEST_WAIT_S)
        self._n_repeated += 1
        return float(longest * random.uniform(0.5, 1))  # noqa: S311  (no secret)


def read_answer(call: Call[Value], response: httpx2.Response) -> Value:
    """The value of an answer.

    Raises:
        ServiceError: It is an error, or no answer of this service at all.
    """
    if not (response.is_success or response.status_code == HTTPStatus.NOT_MODIFIED):
        raise _problem(response)
    try:
        return call.read(response)
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            "unexpected_answer",
            "What answers at this address is not this service, or a version that the client does not know; "
            "check the URL.",
            status=response.status_code,
        ) from error


def _problem(response: httpx2.Response) -> ServiceError:
    status, request_id = response.status_code, response.headers.get("X-Request-ID", "")
    try:
        problem = response.json()
        code, detail = str(problem["code"]), str(problem["detail"])
        request_id = str(problem.get("request_id", request_id))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, detail = "http_error", _foreign(response)
    return ServiceError(
        code, detail, status=status, request_id=request_id, retry_after_s=_retry_after_s(response)
    )


def _foreign(response: httpx2.Response) -> str:
    """What to say of an error without the service's own words: a proxy's, or of another program."""
    status = f"{response.status_code} {response.reason_phrase}".strip()
    if response.is_redirect:
        return (
            f"The address redirects to {response.headers.get('Location', '')[:_MAX_FOREIGN]}; use that one."
        )
    kind = response.headers.get("Content-Type", "")
    said = " ".join(response.text.split())[:_MAX_FOREIGN] if kind.startswith("text/plain") else ""
    reason = f": {said}" if said else ", without a reason"
    return f"The answer is {status}{reason}. It is not the service's own: ask whoever runs it or its proxy."


def _retry_after_s(response: httpx2.Response) -> float | None:
    """Seconds, or a date (RFC 9110, section 10.2.3)."""
    sent = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", sent):
        return float(sent)
    try:
        moment = parsedate_to_datetime(sent)
    except ValueError:
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _distrusts(error: BaseException) -> bool:
    """Whether a certificate was refused, somewhere below the error."""
    below: BaseException | None = error
    while below is not None:
        if isinstance(below, ssl.SSLCertVerificationError):
            return True
        below = below.__cause__ or below.__context__
    return False


def _explain(error: httpx2.RequestError, base_url: str, n_tries: int) -> ClientError:
    times = f" ({n_tries} tries)" if n_tries > 1 else ""
    if _distrusts(error):
        return UnreachableError(
            f"The certificate of {base_url} is not trusted. If it is your own, set SSL_CERT_FILE to the file "
            "of the authority that signed it."
        )
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
        return UnreachableError(
            f"The service at {base_url} can't be reached{times}. Check the address, and that it runs."
        )
    if isinstance(error, httpx2.TimeoutException):
        return ConnectionLostError(f"The service at {base_url} did not answer in time{times}.")
    return ConnectionLostError(
        f"The connection to {base_url} was lost before the whole answer was there{times}."
    )
