"""POST /v1/classify: a clip, or several, and candidate names in, ranked predictions out."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from service import errors
from service.api.context import Context, ContextDep, cancelled_by_disconnect
from service.api.headers import request_id_of
from service.api.intake.upload import Uploads, receive_uploads
from service.api.lines import LINES, count_line, cut_line
from service.api.middleware import CLASSIFY
from service.api.openapi import classify_bodies, documented, lines_schema
from service.api.problems import line_problem
from service.api.question import Question
from service.api.schemas import ClassifyResponse
from service.api.timeline import TIMELINES

router = APIRouter(tags=["classify"])

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The ranked answer; for parts `files` a line for each (an answer or a problem, with "
        "its index), for another `return` the timeline.",
        "content": {
            LINES: {"schema": lines_schema()},
            **{one.media_type: {"schema": {"type": "string"}} for one in TIMELINES.values()},
        },
    }
}


@router.post(
    CLASSIFY,
    name="classify",
    response_model=ClassifyResponse,
    responses=ANSWERS
    | documented(
        errors.MalformedBodyError,
        errors.UnknownBundleError,
        errors.UnknownLabelSetError,
        errors.InvalidNameError,
        errors.BodyTooLargeError,
        errors.UploadStalledError,
        errors.UrlRefusedError,
        errors.FetchFailedError,
        errors.NotMediaError,
        errors.MediaError,
        errors.LabelError,
        errors.InvalidOptionError,
        errors.UnavailableError,
        errors.RequestTimeoutError,
    ),
    openapi_extra=classify_bodies(),
)
async def post_clip(request: Request, context: ContextDep) -> Response:
    """Rank candidate names for one clip by its picture and sound together.

    The clip is the part `file` of a form, or the body itself, or base64 in JSON. Several clips, each in a
    part `files` of one form, are answered one by one, each on a line of JSON, in the order of the parts.
    """
    started = time.perf_counter()
    async with AsyncExitStack() as stack:
        uploads = await stack.enter_async_context(
            receive_uploads(request, context.uploads, context.form_limits, context.budget)
        )
        upload_ms = (time.perf_counter() - started) * 1000
        question = Question(context, uploads.fields, request_id_of(request.scope), upload_ms)
        async with cancelled_by_disconnect(request):
            if uploads.are_many:
                await question.prepare()
                if question.form.returned != "json":
                    raise errors.InvalidOptionError("Several clips are answered as JSON; send one a request.")
                return _Lines(request, context, question, uploads, stack.pop_all())
            answer = await question.ask(uploads.clips[0])
    steps = ", ".join(f"{step};dur={ms:.1f}" for step, ms in answer.timings_ms.items())
    headers = {"Server-Timing": steps}
    if question.form.returned == "json":
        return Response(answer.text, media_type="application/json", headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="timeline.{question.form.returned}"'
    return Response(answer.text, media_type=TIMELINES[question.form.returned].media_type, headers=headers)


class _Lines(Response):
    """Answers clips one after the other, each on a line of JSON as soon as it is ready.

    They are worked on after the whole body has come: fields may follow the clips, and a client that does not
    read before it has sent everything would wait for this service, which would wait for it.

    Args:
        request: The request.
        context: The parts of the service.
        question: What is asked of each clip; prepared.
        uploads: The clips.
        stack: What ends with the answer: it deletes the clips.
    """

    def __init__(
        self, request: Request, context: Context, question: Question, uploads: Uploads, stack: AsyncExitStack
    ) -> None:
        super().__init__(media_type=LINES)
        del self.headers["content-length"]
        self._request = request
        self._context = context
        self._question = question
        self._uploads = uploads
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines."""
        del scope, receive
        async with self._stack, cancelled_by_disconnect(self._request):
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": self.raw_headers})
            for index in range(len(self._uploads.clips)):
                await self._send_line(index, send)
            await send({"type": "http.response.body", "body": b""})

    async def _send_line(self, index: int, send: Send) -> None:
        """Send the answer for one clip, or why there is none. Large ones take room until they are read."""
        with self._context.budget.share() as share:
            try:
                upload = self._uploads.clips[index]
                line = (await self._question.ask(upload, index)).text.encode() + b"\n"
                count_line(len(line), share)
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001  (whatever happens to one clip, the others are answered)
                line = self._problem(error, index)
            for piece in cut_line(line):
                await send({"type": "http.response.body", "body": piece, "more_body": True})

    def _problem(self, error: Exception, index: int) -> bytes:
        body = {"index": index, **line_problem(error, CLASSIFY, request_id_of(self._request.scope))}
        return json.dumps(body, ensure_ascii=False).encode() + b"\n"
