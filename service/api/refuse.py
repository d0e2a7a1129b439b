"""Refuse a request whose body was not read, so that the client sees an answer, not a broken connection."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from service.api.problems import typed_problem
from service.errors import AhseError

# A client that is still sending would see a reset instead of the answer; so a little more is read first.
_DRAIN_BYTES = 64 * 2**20
_DRAIN_S = 2.0


async def refuse(scope: Scope, receive: Receive, send: Send, error: AhseError) -> None:
    """Answer a request of whose body nothing was read yet."""
    await refuse_rest(scope, receive, send, error, is_coming=not _waits_for_our_word(scope))


async def refuse_rest(
    scope: Scope, receive: Receive, send: Send, error: AhseError, *, is_coming: bool
) -> None:
    """Answer with the error's problem. The connection is closed where some of the body is left in it.

    Args:
        scope: of the request.
        receive: gives what is left of its body.
        send: takes the answer.
        error: what to answer with.
        is_coming: whether the client is sending that rest; else it is not waited for.
    """
    is_empty = is_coming and await _drain(receive)
    response = typed_problem(Request(scope), error, headers={} if is_empty else {"Connection": "close"})
    await response(scope, receive, send)


def _waits_for_our_word(scope: Scope) -> bool:
    """Whether the client sends its body only when it is told to, as curl does with large ones."""
    return Headers(scope=scope).get("expect", "").lower() == "100-continue"


async def _drain(receive: Receive) -> bool:
    """Read on for a little; whether that was all."""
    n_bytes = 0
    try:
        async with asyncio.timeout(_DRAIN_S):
            while n_bytes < _DRAIN_BYTES:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False
