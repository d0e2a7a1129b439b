"""POST /v1/embeddings: texts and clips in, vectors of one space out, in OpenAI's shape."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service import errors
from service.api.bodies import parse_body
from service.api.context import Context, ContextDep, cancelled_by_disconnect
from service.api.embeddings import (
    MAX_INPUTS,
    EmbeddedClip,
    EmbeddingList,
    EmbeddingOptions,
    EmbeddingsBody,
    EmbeddingWork,
    read_embedding_options,
)
from service.api.headers import media_type_of
from service.api.intake.body import MAX_FILES, Room
from service.api.intake.json_clip import decode_base64, read_bounded
from service.api.intake.upload import Upload, receive_uploads
from service.api.middleware import EMBEDDINGS
from service.api.openapi import documented, embedding_bodies
from service.errors import InvalidOptionError, InvalidRequestError, UploadUnavailableError

router = APIRouter(tags=["embeddings"])


@router.post(
    EMBEDDINGS,
    name="embeddings",
    response_model=EmbeddingList,
    responses=documented(
        errors.RequestError,
        errors.UnknownBundleError,
        errors.MediaError,
        errors.InvalidLabelError,
        errors.TooMuchTextError,
        errors.UnavailableError,
    ),
    openapi_extra=embedding_bodies(),
)
async def post_inputs(request: Request, context: ContextDep) -> Response:
    """Embed texts and clips in the space in which the bundle compares them.

    The dot product of a clip's vector and a name's orders names as /v1/classify does without calibration; how
    exactly depends on the head of the bundle (docs/api.md).

    The JSON body is that of OpenAI's interface, in which an input may also be a clip: `{"file": base64}`.
    Clips may come as a form too: `file`, or several `files`, or the `url` of one.
    """
    async with _received(request, context) as (options, inputs, uploads), cancelled_by_disconnect(request):
        # Before a download, which may be large: this tells what is wrong with the request.
        work = await context.work_on_names(EmbeddingWork, context, options, inputs)
        for upload in uploads:
            if upload.url is not None:
                await context.download(upload.url, upload.path, upload.share)
        return Response(await work.run(), media_type="application/json")


@asynccontextmanager
async def _received(
    request: Request, context: Context
) -> AsyncIterator[tuple[EmbeddingOptions, list[str | Path], tuple[Upload, ...]]]:
    """The options and inputs of a request, and the uploads among these, which may still have to be fetched.

    Clips are deleted when the context ends.
    """
    limits = context.form_limits
    if media_type_of(request.headers) == "application/json":
        if request.query_params:
            raise InvalidOptionError("With a JSON body all options belong into it, and none into the query.")
        with context.uploads.private() as private, context.budget.share() as share:
            room = Room(private.path, private.share, share)
            body = await run_in_threadpool(
                parse_body, await read_bounded(request, room, limits), EmbeddingsBody
            )
            yield body, await _inputs(body, room), ()
        return
    async with receive_uploads(request, context.uploads, limits, context.budget) as uploads:
        yield (
            read_embedding_options(uploads.fields),
            [clip.path for clip in uploads.clips],
            uploads.clips,
        )


async def _inputs(body: EmbeddingsBody, room: Room) -> list[str | Path]:
    """The inputs of a JSON body; clips are written to disk."""
    sent = body.input if isinstance(body.input, list) else [body.input]
    n_clips = sum(isinstance(one, EmbeddedClip) for one in sent)
    if not 1 <= len(sent) <= MAX_INPUTS or n_clips > MAX_FILES:
        raise InvalidRequestError(
            f"input must have 1 to {MAX_INPUTS} items, of which {MAX_FILES} may be clips."
        )
    inputs: list[str | Path] = []
    n_bytes = 0
    for number, one in enumerate(sent):
        if isinstance(one, EmbeddedClip):
            clip = await run_in_threadpool(decode_base64, one.file, f"input.{number}.file")
            n_bytes += len(clip)
            room.on_disk.grow_to(n_bytes)
            path = room.path(number)
            try:
                await run_in_threadpool(path.write_bytes, clip)
            except OSError as error:
                raise UploadUnavailableError("A clip could not be put on disk; try again later.") from error
        inputs.append(path if isinstance(one, EmbeddedClip) else one)
    return inputs
