"""The protocol of Label Studio's ML backends over HTTP: health, setup, predict, webhook.

Label Studio waits 1 s for health, 3 s for setup and 100 s for predict, which may ask for many tasks at once.
Its log shows answers that are no predictions, so a task that failed is answered with its reason: no
prediction is stored, and Label Studio asks again next time.
Source: label_studio/ml/api_connector.py and models.py of Label Studio 1.23.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cachetools import LRUCache
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from integrations.label_studio.timeline import ConfigError, Timeline, prediction, read_timeline
from integrations.label_studio.videos import VideoError, Videos
from service.client import AsyncClient, ClientError

_HEALTH_S, _SETUP_S, _PREDICT_S = 0.7, 2.5, 90.0
_MAX_BODY_BYTES = 64 * 2**20
_TASKS_AT_ONCE = 4

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choices:
    """How videos are annotated.

    Attributes:
        segment_s: Length of a segment in seconds, or auto.
        max_unknown: Segments whose `unknown` is above this get no region.
        predict_s: Time for all tasks of one request.
    """

    segment_s: str = "auto"
    max_unknown: float = 0.5
    predict_s: float = _PREDICT_S


class NotUpError(Exception):
    """The service is not ready; the text says what is not."""


class Backend:
    """Answers Label Studio.

    Args:
        service: Classifies.
        videos: Has the videos of tasks.
        choices: How.
    """

    def __init__(self, service: AsyncClient, videos: Videos, choices: Choices) -> None:
        self._service = service
        self._videos = videos
        self._choices = choices
        # By project. Bounded, since whoever reaches the backend can name projects.
        self._tokens: LRUCache[str, str] = LRUCache(1000)
        self._places = asyncio.Semaphore(_TASKS_AT_ONCE)

    async def close(self) -> None:
        """Close connections."""
        await self._videos.close()
        await self._service.aclose()

    async def health(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Up while the service is ready."""
        async with asyncio.timeout(_HEALTH_S):
            health = await self._service.health()
        if not health.ready:
            raise NotUpError(health.detail)
        return {"status": "UP", "model_class": "AHSE"}

    async def setup(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The version of the models, if the project's configuration has a timeline.

        The host that the request names is not believed: videos come from the Label Studio given at the start.
        """
        timeline = read_timeline(str(asked.get("schema", "")))
        if token := asked.get("access_token"):
            self._tokens[str(asked.get("project"))] = str(token)
        async with asyncio.timeout(_SETUP_S):
            model = (await self._service.models())[0]
        return {"model_version": self._version(model.id, model.version, timeline)}

    async def predict(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """One result a task, in order: a prediction, or why there is none."""
        timeline = read_timeline(str(asked.get("label_config", "")))
        token = self._tokens.get(str(asked.get("project")))
        ends = asyncio.get_running_loop().time() + self._choices.predict_s
        tasks = [self._answer(task, timeline, token, ends) for task in asked.get("tasks") or []]
        return {"results": await asyncio.gather(*tasks)}

    async def webhook(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Nothing is trained; that is no error."""
        return {"status": "ok", "result": None}

    async def _answer(
        self, task: Mapping[str, Any], timeline: Timeline, token: str | None, ends: float
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout_at(ends), self._places:
                return await self._predict(task, timeline, token)
        except (ClientError, VideoError) as error:
            reason = str(error)
        except TimeoutError:
            reason = (
                f"Not finished within {self._choices.predict_s:g} s; retrieve predictions of fewer tasks at "
                "once, or of shorter videos."
            )
        _log.warning("task %s: %s", task.get("id"), reason)
        return {"error": reason}

    async def _predict(
        self, task: Mapping[str, Any], timeline: Timeline, token: str | None
    ) -> dict[str, Any]:
        data = task.get("data") or {}
        address = data.get(timeline.field)
        if not isinstance(address, str) or not address:
            raise VideoError(f"The task has no video in its field {timeline.field!r}.")
        async with self._videos.fetch(address, token) as clip:
            answer = await self._service.classify(
                clip if isinstance(clip, Path) else None,
                url=clip if isinstance(clip, str) else None,
                labels=list(timeline.names),
                segment_s=self._choices.segment_s,
                top_k=1,
            )
        found = prediction(
            timeline, answer.segments or (), timeline.frames_per_s(data), self._choices.max_unknown
        )
        return found | {"model_version": self._version(answer.bundle, answer.bundle_version, timeline)}

    def _version(self, bundle: str, version: str, timeline: Timeline) -> str:
        """Changes with all that predictions depend on: Label Studio asks again only for another version."""
        depends = f"{timeline!r} {self._choices.segment_s} {self._choices.max_unknown}"
        return f"ahse {bundle} {version} {hashlib.sha256(depends.encode()).hexdigest()[:8]}"


def create_app(backend: Backend, user: str | None = None, password: str | None = None) -> Starlette:
    """The backend as an ASGI application.

    Args:
        backend: Answers.
        user: Of HTTP basic authentication; None for none.
        password: Of the user.
    """
    login = f"{user}:{password or ''}".encode() if user else None

    def answered_by(answer: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]) -> Any:
        async def endpoint(request: Request) -> Response:
            if login is not None and not _is_login(request, login):
                return JSONResponse(
                    {"error": "Wrong user or password."}, 401, {"WWW-Authenticate": 'Basic realm="AHSE"'}
                )
            try:
                asked = await _body(request) if request.method == "POST" else {}
                return JSONResponse(await answer(asked))
            except (ConfigError, ValueError) as error:
                return _failed(request, 400, str(error))
            except (ClientError, NotUpError) as error:
                return _failed(request, 503, str(error))
            except TimeoutError:
                return _failed(request, 503, "The AHSE service does not answer in time.")

        return endpoint

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await backend.close()

    return Starlette(
        routes=[
            Route("/", answered_by(backend.health)),
            Route("/health", answered_by(backend.health)),
            Route("/setup", answered_by(backend.setup), methods=["POST"]),
            Route("/predict", answered_by(backend.predict), methods=["POST"]),
            Route("/webhook", answered_by(backend.webhook), methods=["POST"]),
        ],
        lifespan=lifespan,
    )


def _failed(request: Request, status: int, reason: str) -> Response:
    """Label Studio shows the status only; the reason is for who reads the log."""
    _log.warning("%s: %s", request.url.path, reason)
    return JSONResponse({"error": reason}, status)


def _is_login(request: Request, login: bytes) -> bool:
    sent = request.headers.get("authorization", "")
    expected = "Basic " + base64.b64encode(login).decode()
    return hmac.compare_digest(sent.encode(), expected.encode())


async def _body(request: Request) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: Too large, or something else.
    """
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > _MAX_BODY_BYTES:
            raise ValueError("The request is too large; retrieve predictions of fewer tasks at once.")
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError("The body must be a JSON object.")
    return found
