"""How many clips the service takes in at once: one more is refused before its upload is read."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.addresses import CLASSIFY
from service.api.refuse import refuse
from service.errors import OverloadedError


class Admission:
    """Counts requests with clips from their first byte to the end of the answer.

    So what is bounded is not only the work that waits, but also the uploads on disk.

    Args:
        app: what answers the requests that are let in.
        most: requests inside at once.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._n_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != CLASSIFY:
            await self._app(scope, receive, send)
        elif self._n_inside >= self._most:
            error = OverloadedError("The service has as many clips as it can take; try again later.")
            await refuse(scope, receive, send, error)
        else:
            self._n_inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._n_inside -= 1
