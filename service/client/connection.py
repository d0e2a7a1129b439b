"""What both clients are told, and check in the same way."""

from __future__ import annotations

import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import httpx2

from service import __version__
from service.client import protocol
from service.client.errors import InvalidArgumentError
from service.client.protocol import Call, Question
from service.client.tries import Tries
from service.client.upload import ClipSource, Upload

Value = TypeVar("Value")

DEFAULT_URL = "http://127.0.0.1:8000"
KEY_VARIABLE = "AHSE_API_KEY"
_CONNECT_TIMEOUT_S = 10.0
# Fewer than the requests with clips that a service takes at a time unless it is set up otherwise (136).
MAX_CONNECTIONS = 100


class Connection(ABC):
    """How a client reaches the service; `Client` describes the arguments."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        key: str | None = None,
        *,
        timeout_s: float = 150.0,
        retries: int = 4,
        max_wait_s: float = 60.0,
        max_connections: int = MAX_CONNECTIONS,
        verify: ssl.SSLContext | None = None,
        transport: Any = None,
    ) -> None:
        self.url = protocol.check_base_url(url)
        self._retries = retries
        self.max_wait_s = max_wait_s
        self._open(
            {
                "base_url": self.url,
                "headers": protocol.headers(
                    os.environ.get(KEY_VARIABLE) if key is None else key, __version__
                ),
                # Requests wait for a connection without a deadline, since `timeout_s` is for the service.
                "timeout": httpx2.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s), pool=None),
                "limits": httpx2.Limits(
                    max_connections=max_connections, max_keepalive_connections=max_connections
                ),
                "verify": True if verify is None else verify,
                "transport": transport,
            }
        )

    @abstractmethod
    def _open(self, options: dict[str, Any]) -> None:
        """Make the client of httpx2 with these options."""

    def _tries(self, call: Call[Value], uploads: Sequence[Upload]) -> Tries[Value]:
        return Tries(call, uploads, self.url, self._retries, self.max_wait_s)


def check_clips(clips: Sequence[ClipSource], question: Question) -> None:
    """Check that there is either a list of clips or the URL of one.

    Raises:
        InvalidArgumentError: There is neither, or both, or one clip in place of a list.
    """
    # An open file would be a list of its lines.
    if isinstance(clips, (str, bytes, os.PathLike)) or hasattr(clips, "read"):
        raise InvalidArgumentError("clips is one clip; give a list of them")
    if bool(clips) == (question.get("url") is not None):
        raise InvalidArgumentError("give either a clip or the url of one")
