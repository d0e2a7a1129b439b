"""Connections of the HTTP server: how many, how long each may take, and how one is closed."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.api.problems import RETRY_AFTER_S, problem_body

# How long the rest of a body is read and thrown away once the request is answered. A connection that is
# closed before is reset, and the client may never see the answer.
_LINGER_S = 30.0
# How often a client that reads an answer slowly is looked at.
_READING_S = 10.0


@dataclass(frozen=True)
class ConnectionBounds:
    """What connections may take.

    Attributes:
        max_connections: Maximum number of connections.
        header_timeout_s: Longest time for the header of a request, from its first byte; for the first one
            from the connection.
        min_bytes_per_s: Lowest rate at which a client must read a large answer.
    """

    max_connections: int
    header_timeout_s: float
    min_bytes_per_s: int


# SO_LINGER for no time at all.
_RESET = struct.pack("ii", 1, 0)
# Connections beyond the maximum that are told so at once; still more are just closed.
_N_TOLD = 64


class BoundedConnection(H11Protocol):
    """One connection, with deadlines where uvicorn has none.

    uvicorn closes a connection that is idle after a request. Added here: one that sends no request or half a
    header, the rest of a body that was refused, and a client that does not read its answer. (Bodies have
    deadlines in `admission.py`.) Where there are too many connections, the one that has waited longest for
    its client is closed for a new one; only if all are being answered, the new one is refused.

    Attributes:
        bounds: What connections may take.
    """

    bounds: ClassVar[ConnectionBounds]

    @classmethod
    def within(cls, bounds: ConnectionBounds) -> type[BoundedConnection]:
        """The class for a server: uvicorn makes its objects."""
        return type("Connection", (cls,), {"bounds": bounds})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._phase = ""
        self._phase_began = 0.0
        self._phase_timer: asyncio.TimerHandle | None = None
        self._reading_timer: asyncio.TimerHandle | None = None
        self._n_unread = 0
        self._closing: _ClosedGently

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Wait for the first header, if there is room for another connection."""
        self._closing = _ClosedGently(transport, self._is_sending)
        super().connection_made(self._closing)  # type: ignore[arg-type]  # stands for the transport
        n_surplus = len(self.connections) - self.bounds.max_connections
        if n_surplus > 0 and not self._close_longest_waiting():
            if n_surplus > _N_TOLD:
                transport.abort()
                return
            status = HTTPStatus.SERVICE_UNAVAILABLE
            self._refuse(status, "too_many_connections", "Too many connections; try again later.")
        self._follow()

    def data_received(self, data: bytes) -> None:
        """Handle what has arrived; throw it away once the connection is being closed."""
        if not self._closing.is_closing():
            super().data_received(data)
            self._follow()

    def on_response_complete(self) -> None:
        """Wait for the rest of the body, or for the next request."""
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        for timer in (self._phase_timer, self._reading_timer):
            if timer is not None:
                timer.cancel()

    def pause_writing(self) -> None:
        """The client does not read as fast as the answer is written: from now on its rate is checked."""
        super().pause_writing()
        self._n_unread = self.transport.get_write_buffer_size()
        self._reading_timer = self.loop.call_later(_READING_S, self._check_reading)

    def resume_writing(self) -> None:
        """The client has read enough."""
        super().resume_writing()
        if self._reading_timer is not None:
            self._reading_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; the text of the library is not sent."""
        del msg
        self._refuse(HTTPStatus.BAD_REQUEST, "malformed_request", "This is not an HTTP/1.1 request.")

    def shutdown(self) -> None:
        """End the connection, or after its answer."""
        if self._is_answering:
            super().shutdown()
        else:
            self._closing.real.close()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_sending(self) -> bool:
        """Whether the client may be in the middle of a request."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def _follow(self) -> None:
        """Set the timer of the phase that the connection is in, if it is a new one."""
        phase, expiry = self._find_phase()
        if phase == self._phase:
            return
        self._phase, self._phase_began = phase, self.loop.time()
        if self._phase_timer is not None:
            self._phase_timer.cancel()
        self._phase_timer = None if expiry is None else self.loop.call_later(*expiry)

    def _find_phase(self) -> tuple[str, tuple[float, Callable[[], None]] | None]:
        """Name of the phase, and what happens when it lasts too long."""
        if self._closing.is_closing() or (self.conn.their_state is h11.SEND_BODY and not self._is_answering):
            return "rest", (_LINGER_S, self._closing.real.abort)
        if self._is_answering:
            return "answer", None
        if self.cycle is not None and not self.conn.trailing_data[0]:
            return "idle", None  # uvicorn's own timer runs
        return "header", (self.bounds.header_timeout_s, self._end_header)

    def _end_header(self) -> None:
        if self.conn.trailing_data[0]:
            status = HTTPStatus.REQUEST_TIMEOUT
            self._refuse(status, "header_timeout", "The header of the request took too long.")
            self._follow()
        else:
            self._closing.real.abort()

    def _check_reading(self) -> None:
        """End the connection of a client that has read too little since the last check."""
        n_unread = self.transport.get_write_buffer_size()
        if self._n_unread - n_unread < self.bounds.min_bytes_per_s * _READING_S:
            # Reset, since the system would go on to hold what it has not sent yet.
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._closing.real.abort()
            return
        self._n_unread = n_unread
        self._reading_timer = self.loop.call_later(_READING_S, self._check_reading)

    def _close_longest_waiting(self) -> bool:
        """Close the connection that has waited longest for its client; whether there was one."""
        others = (one for one in self.connections if isinstance(one, BoundedConnection) and one is not self)
        waiting = [one for one in others if not one._is_answering]
        if not waiting:
            return False
        longest = min(waiting, key=lambda one: one._phase_began)
        self.connections.discard(longest)
        longest._closing.real.abort()
        return True

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        """Answer without the application, since there is no whole request, and close the connection."""
        body = json.dumps(problem_body(status, code, detail)).encode()
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: {PROBLEM_TYPE}\r\n"
            f"content-length: {len(body)}\r\nretry-after: {RETRY_AFTER_S}\r\nconnection: close\r\n\r\n"
        )
        self._closing.real.write(head.encode() + body)
        self._closing.close_after_rest()


class _ClosedGently:
    """Stands for the transport of a connection, and does not close it before a sending client has its answer.

    A socket that is closed while data arrives is reset, and an answer that the client has not read is lost.
    So only the own direction is closed, and what arrives is thrown away, until the client closes or time is
    up (RFC 9112, 9.6).

    Args:
        real: The transport.
        is_sending: Tells whether the client may be in the middle of a request.
    """

    def __init__(self, real: asyncio.Transport, is_sending: Callable[[], bool]) -> None:
        self.real = real
        self._is_sending = is_sending
        self._is_lingering = False

    def __getattr__(self, name: str) -> Any:
        """All else is that of the transport."""
        return getattr(self.real, name)

    def is_closing(self) -> bool:
        """Whether nothing may be written any more."""
        return self._is_lingering or self.real.is_closing()

    def close(self) -> None:
        """Close the connection, or only the own direction while the client is sending."""
        if self._is_sending() and not self.is_closing():
            self.close_after_rest()
        else:
            self.real.close()

    def close_after_rest(self) -> None:
        """Close the own direction."""
        self._is_lingering = True
        if self.real.can_write_eof():  # not under TLS, where the client closes after the answer
            self.real.write_eof()
        self.real.resume_reading()
