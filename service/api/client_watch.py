"""Notice that a client leaves while its request is worked on, so that the rest of the work is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from service.api.metrics import Metrics
from service.client import Client, ClientGone


@asynccontextmanager
async def work_for_client(request: Request, metrics: Metrics) -> AsyncIterator[None]:
    """What is begun inside is work for the client of this request.

    Args:
        request: its body has been read; what comes next can only be that the client leaves.
        metrics: count the requests that are dropped.

    Raises:
        ClientDisconnect: the work was dropped, because nobody waits for it.
    """
    client = Client()
    watch = asyncio.create_task(_leave_with(request, client))
    try:
        with client.served():
            yield
    except ClientGone as gone:
        metrics.dropped(gone.waited_for)
        raise ClientDisconnect from gone
    finally:
        # Also when this request is cancelled, as on a shutdown that takes too long.
        client.leave()
        watch.cancel()


async def _leave_with(request: Request, client: Client) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    client.leave()
