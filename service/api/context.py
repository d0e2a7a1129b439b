"""What the routes work with: built once by create_app, handed to each route by FastAPI."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request

from service.api.clip_workers import ClipWorkers, run_beside
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
    clip_workers: ClipWorkers
    """where clips are worked on."""
    store_workers: ThreadPoolExecutor
    """where the label store is asked: apart, so that health and label sets never wait behind clips."""

    async def classify(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Work on a clip beside the event loop; see ClipWorkers.run for what it may raise."""
        return await self.clip_workers.run(partial(function, *args, **kwargs))

    async def ask_store(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do short blocking work beside the event loop."""
        return await run_beside(self.store_workers, partial(function, *args, **kwargs))


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]
