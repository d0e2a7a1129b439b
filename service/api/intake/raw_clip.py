"""Read a body that is the clip itself."""

from __future__ import annotations

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from service.api.intake.body import Body, Room, pieces


async def read_raw(request: Request, room: Room) -> Body:
    """Write a body to disk as it comes.

    Raises:
        OverloadedError: All uploads together are as large as they may be.
        OSError: It can't be written.
    """
    path, n_bytes = room.path(), 0
    with path.open("wb") as file:
        async for piece in pieces(request.stream()):
            n_bytes += len(piece)
            room.on_disk.grow_to(n_bytes)
            # In a thread: writing must not hold up other requests.
            await run_in_threadpool(file.write, piece)
    return Body((path,))
