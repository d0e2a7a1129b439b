"""Report the end of a job to an address of its client's, signed as the Standard Webhooks specification says.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md (headers, secrets,
signatures of the kind `v1`, redirects, 410, times).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ssl
from dataclasses import dataclass
from datetime import datetime

import httpcore2
import httpx2
import structlog

from service import __version__
from service.api.intake.public_network import PublicNetwork, public_url
from service.api.jobs.schemas import webhook_body
from service.errors import InvalidOptionError, UrlRefusedError
from service.jobs.job import Delivery, Webhook

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 10.0
_SECRET_PREFIX = "whsec_"  # noqa: S105  (how secrets begin)
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64
_MAX_URL_CHARACTERS = 2000
_GONE = 410


@dataclass(frozen=True)
class Sent:
    """What became of one attempt.

    Attributes:
        is_delivered: Whether it was answered with a status of success.
        is_final: Whether there is no use in another attempt.
        reason: For the log.
    """

    is_delivered: bool
    is_final: bool
    reason: str


def check_webhook(url: str | None, secret: str | None) -> Webhook | None:
    """Read the two fields of a form. The host is checked by `WebhookSender.check`, and when connecting.

    Raises:
        UrlRefusedError: Not a URL that reports are sent to.
        InvalidOptionError: One field without the other, or no acceptable secret.
    """
    if url is None and secret is None:
        return None
    if url is None or secret is None:
        raise InvalidOptionError(
            "webhook and webhook_secret are sent together: the secret signs what is sent."
        )
    if len(url) > _MAX_URL_CHARACTERS:
        raise UrlRefusedError(f"The URL of a webhook has at most {_MAX_URL_CHARACTERS} characters.")
    public_url(url, "webhook")
    _key_of(secret)
    return Webhook(url, secret)


def _key_of(secret: str) -> bytes:
    """The bytes that sign."""
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(_SECRET_PREFIX) or not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise InvalidOptionError(
            f"webhook_secret must be {_SECRET_PREFIX} and base64 of {_MIN_SECRET_BYTES} to "
            f"{_MAX_SECRET_BYTES} random bytes; make one with: echo whsec_$(openssl rand -base64 32)"
        )
    return key


def signed_headers(message_id: str, now: datetime, body: bytes, secret: str) -> dict[str, str]:
    """The headers that prove who has sent a body, and when."""
    timestamp = str(int(now.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    digest = hmac.new(_key_of(secret), signed, hashlib.sha256).digest()
    return {
        "Webhook-Id": message_id,
        "Webhook-Timestamp": timestamp,
        "Webhook-Signature": f"v1,{base64.b64encode(digest).decode()}",
    }


class WebhookSender:
    """Sends reports, each over a connection of its own to a public address. Redirects are not followed.

    Args:
        network: Opens the connections.
        tls: Whom to trust; None: the certificate authorities of the system, or those in SSL_CERT_FILE.
    """

    def __init__(self, network: PublicNetwork | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._network = network or PublicNetwork()
        self._tls = tls or httpcore2.default_ssl_context()

    async def check(self, webhook: Webhook) -> None:
        """Refuse a webhook that could not be reached, before its job is made.

        Raises:
            UrlRefusedError: Its host has no public address now.
        """
        try:
            await self._network.check(httpx2.URL(webhook.url).host, _TIMEOUT_S)
        except (UrlRefusedError, httpcore2.ConnectTimeout):
            raise UrlRefusedError(
                "The host of the webhook has no address on the public internet; reports are not sent into "
                "private networks or to this machine."
            ) from None

    async def send(self, due: Delivery, now: datetime) -> Sent:
        """Send one report; it never raises what is the receiver's fault."""
        url = httpx2.URL(due.webhook.url)
        body = webhook_body(due.job).encode()
        headers = [
            ("Host", url.netloc.decode()),
            ("User-Agent", f"ahse/{__version__}"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            *signed_headers(f"msg_{due.job.id}", now, body, due.webhook.secret).items(),
        ]
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status = await self._post(url, [(n.encode(), v.encode()) for n, v in headers], body)
        except UrlRefusedError:
            return Sent(is_delivered=False, is_final=False, reason="no public address")
        except (TimeoutError, httpcore2.TimeoutException):
            return Sent(is_delivered=False, is_final=False, reason="timeout")
        except (httpcore2.NetworkError, httpcore2.ProtocolError):
            return Sent(is_delivered=False, is_final=False, reason="no connection")
        is_delivered = status // 100 == 2
        return Sent(is_delivered, is_final=is_delivered or status == _GONE, reason=f"status {status}")

    async def _post(self, url: httpx2.URL, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        """The status of the answer, whose body is not read."""
        target = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        async with (
            httpcore2.AsyncConnectionPool(self._tls, network_backend=self._network) as pool,
            pool.stream("POST", target, headers=headers, content=body) as response,
        ):
            return int(response.status)
