"""What the routes work with: built once by create_app, handed to each route by FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request

from service.api.metrics import Metrics
from service.bundle.registry import Registry
from service.classifier import Classifier
from service.labels.store import LabelStore
from service.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The service's parts."""

    settings: Settings
    registry: Registry
    store: LabelStore
    classifier: Classifier
    metrics: Metrics
    workers: ThreadPoolExecutor
    """where blocking work runs; its size bounds how many clips are worked on at once."""

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run blocking work beside the event loop, with the request's log context."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.workers, partial(function, *args, **kwargs))


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]
