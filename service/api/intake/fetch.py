"""Fetch a clip from a URL in place of an upload: http and https, from public addresses, within limits."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpcore2
import httpx2
from starlette.concurrency import run_in_threadpool

from service import __version__
from service.api.guard.byte_budget import ByteShare
from service.api.intake.public_network import PublicNetwork, public_url
from service.errors import BodyTooLargeError, FetchFailedError, UploadUnavailableError, UrlRefusedError

_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class FetchLimits:
    """What a download may cost: the bytes and pauses of an upload, and the time of its request."""

    max_bytes: int
    pause_s: float
    """longest time without a byte, also until the connection stands."""
    total_s: float
    """longest time for all of it, redirects included."""


class Fetcher:
    """Downloads clips. Nothing is kept between two downloads: no connection, no cookie, no address.

    Proxies from the environment are not used: they would resolve names themselves.

    Args:
        limits: What one download may cost.
        network: Opens the connections.
        tls: Whom to trust; None: the certificate authorities of the system, or those in SSL_CERT_FILE.
    """

    def __init__(
        self,
        limits: FetchLimits,
        network: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits
        self._network = network or PublicNetwork()
        self._tls = tls or httpcore2.default_ssl_context()
        pauses = dict.fromkeys(("connect", "read", "write", "pool"), limits.pause_s)
        self._extensions = {"timeout": pauses}

    async def fetch(self, url: str, path: Path, share: ByteShare) -> None:
        """Write the clip at a URL to a file.

        Args:
            url: Where it is.
            path: The file.
            share: Counts its bytes.

        Raises:
            UrlRefusedError: The URL, or a redirect from it, is not one that clips are fetched from.
            FetchFailedError: The server can't be reached, is too slow, or does not answer with a clip.
            BodyTooLargeError: More bytes than allowed.
            OverloadedError: All uploads together are as large as they may be.
            UploadUnavailableError: The file can't be written.
        """
        limits = self._limits
        try:
            async with asyncio.timeout(limits.total_s):
                await self._follow(public_url(url, "clip"), path, share)
        except TimeoutError:
            raise FetchFailedError(f"The clip could not be fetched within {limits.total_s:g} s.") from None
        except httpcore2.TimeoutException as error:
            raise FetchFailedError(
                f"The server of the URL sent nothing for {limits.pause_s:g} s; try again later."
            ) from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise FetchFailedError(_reason(error)) from error
        except OSError as error:
            raise UploadUnavailableError("The clip could not be put on disk; try again later.") from error

    async def _follow(self, url: httpx2.URL, path: Path, share: ByteShare) -> None:
        """Request a URL and what it redirects to, until a clip comes."""
        async with httpcore2.AsyncConnectionPool(self._tls, network_backend=self._network) as pool:
            for _ in range(1 + _MAX_REDIRECTS):
                target = httpcore2.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                )
                async with pool.stream(
                    "GET", target, headers=_headers(url), extensions=self._extensions
                ) as response:
                    location = httpx2.Headers(response.headers).get("location")
                    if response.status not in _REDIRECTS or location is None:
                        await self._save(response, path, share)
                        return
                url = _redirected(url, location)
        raise FetchFailedError(
            f"The URL redirects more than {_MAX_REDIRECTS} times; send the last one itself."
        )

    async def _save(self, response: httpcore2.Response, path: Path, share: ByteShare) -> None:
        headers = httpx2.Headers(response.headers)
        if response.status != 200:
            raise FetchFailedError(f"The server of the URL answered with status {response.status}, not 200.")
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise FetchFailedError("The server of the URL compresses its answer, though it was told not to.")
        if int(headers.get("content-length", 0)) > self._limits.max_bytes:
            raise self._too_large()
        n_bytes = 0
        with path.open("wb") as file:
            async for chunk in response.aiter_stream():
                n_bytes += len(chunk)
                if n_bytes > self._limits.max_bytes:
                    raise self._too_large()
                share.grow_to(n_bytes)
                # In a thread: writing must not hold up other requests.
                await run_in_threadpool(file.write, chunk)

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"The clip at the URL is larger than the {self._limits.max_bytes} bytes that are allowed."
        )


def _headers(url: httpx2.URL) -> list[tuple[bytes, bytes]]:
    """Of every request; uncompressed, since a small body could become a large file."""
    return [
        (b"Host", url.netloc),
        (b"User-Agent", f"ahse/{__version__}".encode()),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]


def _redirected(url: httpx2.URL, location: str) -> httpx2.URL:
    """Where a redirect leads, checked as the URL itself was."""
    try:
        target = public_url(url.join(location), "redirect")
    except httpx2.InvalidURL:
        raise UrlRefusedError("The URL of the redirect is not well-formed.") from None
    if url.scheme == "https" and target.scheme == "http":
        raise UrlRefusedError("The URL redirects from https to http, which anybody on the way can change.")
    return target


def _reason(error: Exception) -> str:
    """What to say of a failed connection, without the library's words."""
    # The library's errors hold what caused them as their argument, and have no `__cause__`.
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in error.args):
        return "The certificate of the URL's server could not be verified."
    if isinstance(error, httpcore2.ConnectError):
        return "The server of the URL could not be connected to."
    return "The server of the URL broke off, or does not answer as HTTP wants it."
