"""Embed changed label sets behind requests, so that the next request with one finds its labels known."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from service.api.prometheus import Metrics
from service.cancellation import CancellationToken
from service.errors import AhseError, UnknownLabelSetError

_log = structlog.get_logger(__name__)

# Sets that wait. One that finds no room is embedded by the first request with it.
_MAX_WAITING = 100


class Warmer:
    """Takes label sets one at a time, in the order in which they were asked for. Used on the event loop only.

    Nothing depends on it: what fails, finds no room, or is lost when the service ends costs the first request
    with the set some time.

    Args:
        metrics: Count what became of the sets.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: dict[str, None] = {}
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, embed: Callable[[str], Awaitable[bool]]) -> None:
        """Begin, on the running event loop.

        Args:
            embed: Embeds the labels of the set of that name, as it then is; whether it had not changed in the
                end. One that had is embedded again when others have had their turn.
        """
        self._task = asyncio.create_task(self._work_always(embed))

    def ask(self, name: str) -> None:
        """Have the labels of a set embedded when it is its turn; asked again until then, once."""
        if name not in self._waiting and len(self._waiting) >= _MAX_WAITING:
            self._metrics.warm_up("refused")
            return
        self._waiting[name] = None
        self._asked.set()

    async def close(self) -> None:
        """End, with the step that runs, and forget the sets that wait."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _work_always(self, embed: Callable[[str], Awaitable[bool]]) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._waiting:
                name = next(iter(self._waiting))
                del self._waiting[name]  # a change from now on asks anew
                await self._warm(name, embed)

    async def _warm(self, name: str, embed: Callable[[str], Awaitable[bool]]) -> None:
        token = CancellationToken()
        try:
            with token.active():
                is_done = await embed(name)
        except asyncio.CancelledError:  # the service ends
            token.cancel("cancelled")  # what a thread does for it
            raise
        except UnknownLabelSetError:
            pass  # it was deleted meanwhile
        except Exception as error:  # noqa: BLE001  (one set must not end the work on all others)
            code = error.code if isinstance(error, AhseError) else None
            _log.warning("warm_up_failed", label_set=name, code=code, exc_info=error)
            self._metrics.warm_up("failed")
        else:
            if is_done:
                self._metrics.warm_up("done")
            else:
                self.ask(name)
