"""The videos of tasks, downloaded from one Label Studio; its token goes to no other host."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

_MAX_REDIRECTS = 5
_PAUSE_S = 10.0


class VideoError(Exception):
    """The video of a task can't be had; the text says why, and what to do."""


class Videos:
    """Downloads videos to temporary files.

    Args:
        url: Of Label Studio. Requests are sent to this scheme, host and port only.
        token: A personal access token or a legacy token; None: the one that each request brings.
        max_bytes: Of one video.
        transport: Where requests go instead of to the network.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        max_bytes: int,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = httpx2.URL(url)
        self._token = token
        self._max_bytes = max_bytes
        self._http = httpx2.AsyncClient(timeout=_PAUSE_S, transport=transport)

    async def close(self) -> None:
        """Close connections."""
        await self._http.aclose()

    @asynccontextmanager
    async def fetch(self, address: str, token: str | None) -> AsyncIterator[Path | str]:
        """A file with the video, deleted afterwards; or its URL, if another host has it.

        Args:
            address: As the task has it, usually relative to Label Studio.
            token: Used where none was given at the start.

        Raises:
            VideoError: It can't be downloaded.
        """
        with tempfile.TemporaryDirectory(prefix="label-studio-") as folder:
            file = Path(folder) / "video"
            try:
                elsewhere = await self._follow(self._base.join(address), self._token or token, file)
            except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
                raise VideoError(
                    f"Label Studio does not deliver the video ({type(error).__name__}); check the address of "
                    "Label Studio that was given at the start."
                ) from error
            yield file if elsewhere is None else elsewhere

    async def _follow(self, url: httpx2.URL, token: str | None, file: Path) -> str | None:
        """Download, or return the URL on another host that the address leads to."""
        for _ in range(1 + _MAX_REDIRECTS):
            if url.scheme not in ("http", "https"):
                raise VideoError(
                    f"A video at {url.scheme}:// can't be downloaded; let Label Studio make pre-signed URLs "
                    "for this storage, or import https URLs."
                )
            if (url.scheme, url.host, url.port) != (self._base.scheme, self._base.host, self._base.port):
                return str(url)
            headers = {"Authorization": await self._authorization(token)} if token else {}
            async with self._http.stream("GET", url, headers=headers) as response:
                location = response.headers.get("location")
                if not response.is_redirect or location is None:
                    await self._save(response, file)
                    return None
            url = url.join(location)
        raise VideoError(f"The video's address redirects more than {_MAX_REDIRECTS} times.")

    async def _authorization(self, token: str) -> str:
        """The header for a token: a personal one (a JWT) is exchanged for one that lasts some minutes."""
        if token.count(".") != 2:
            return f"Token {token}"
        answer = await self._http.post(self._base.join("/api/token/refresh/"), json={"refresh": token})
        found = answer.json() if answer.is_success else {}
        if "access" not in found:
            raise VideoError("Label Studio refuses the personal access token; make a new one.")
        return f"Bearer {found['access']}"

    async def _save(self, response: httpx2.Response, file: Path) -> None:
        # Without a valid token Label Studio answers with its login page.
        is_page = response.headers.get("content-type", "").startswith("text/html")
        if response.status_code in (401, 403) or (response.is_success and is_page):
            raise VideoError(
                "Label Studio does not let the backend download the video; give it a valid token of a user "
                "who may see the project (LABEL_STUDIO_API_KEY)."
            )
        if response.is_error:
            raise VideoError(f"Label Studio answered with status {response.status_code} for the video.")
        n_bytes = 0
        with file.open("wb") as out:
            async for part in response.aiter_bytes():
                n_bytes += len(part)
                if n_bytes > self._max_bytes:
                    raise VideoError(f"The video is larger than {self._max_bytes} bytes.")
                out.write(part)
