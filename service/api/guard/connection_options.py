"""What uvicorn is told of TLS and proxies, checked before anything is loaded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from service.errors import SettingsError
from service.settings import Settings

# asyncio waits 60 s by default, in which a client that says nothing holds a connection.
_HANDSHAKE_S = 10.0
MAX_HANDSHAKES = 256
"""Connections that may be in the middle of their handshake. They are no connections yet for uvicorn."""


class TlsLoop(asyncio.SelectorEventLoop):
    """An event loop whose TLS servers bound the time and number of handshakes.

    uvicorn has no setting for it, and learns of a connection after its handshake only. Where there are too
    many handshakes, the one that began first is broken off for a new one.
    """

    def __init__(self, handshake_s: float = _HANDSHAKE_S, max_handshakes: int = MAX_HANDSHAKES) -> None:
        super().__init__()
        self._handshake_s, self._max_handshakes = handshake_s, max_handshakes
        # In the order in which they began; the tasks are kept here while they run.
        self._handshakes: dict[asyncio.Transport, asyncio.Task[None]] = {}

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> asyncio.Server:
        """As in asyncio."""
        context = kwargs.pop("ssl", None)
        if context is None:
            return await super().create_server(protocol_factory, *args, **kwargs)

        def begin(transport: asyncio.Transport) -> None:
            if len(self._handshakes) >= self._max_handshakes:
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.abort()
            self._handshakes[transport] = self.create_task(
                self._shake_hands(transport, context, protocol_factory)
            )

        return await super().create_server(lambda: _Unencrypted(begin), *args, **kwargs)

    async def _shake_hands(
        self,
        transport: asyncio.Transport,
        context: ssl.SSLContext,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        early = _Early()
        try:
            if transport.is_closing():  # broken off before it began
                return
            secure = await self.start_tls(
                transport, early, context, server_side=True, ssl_handshake_timeout=self._handshake_s
            )
        except OSError:  # also of ssl; the connection is closed
            return
        finally:
            self._handshakes.pop(transport, None)
        if secure is None or early.is_lost:
            return
        protocol = protocol_factory()
        secure.set_protocol(protocol)
        protocol.connection_made(secure)
        if early.data and isinstance(protocol, asyncio.Protocol):
            protocol.data_received(bytes(early.data))


class _Unencrypted(asyncio.Protocol):
    """A connection that was accepted; nothing that it sends in the clear is ever read as a request."""

    def __init__(self, begin: Callable[[asyncio.Transport], None]) -> None:
        self._begin = begin

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of a server
        """Begin the handshake."""
        self._begin(transport)


class _Early(asyncio.Protocol):
    """Keeps what arrives with the end of the handshake, before the server's own protocol is there."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left already."""
        del exc
        self.is_lost = True


def connection_options(settings: Settings) -> dict[str, Any]:
    """Arguments of `uvicorn.Config`.

    Raises:
        SettingsError: The files of the certificate can't be used.
    """
    return {**_proxy_options(settings.trusted_proxies), **_tls_options(settings)}


def _proxy_options(trusted: Sequence[str]) -> dict[str, Any]:
    # Without this uvicorn believes what anyone on this machine says of its own address.
    return {"proxy_headers": bool(trusted), "forwarded_allow_ips": list(trusted)}


def _tls_options(settings: Settings) -> dict[str, Any]:
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None and key is None:
        return {}
    if certificate is None or key is None:
        given, missing = (
            ("AHSE_TLS_CERT", "AHSE_TLS_KEY") if key is None else ("AHSE_TLS_KEY", "AHSE_TLS_CERT")
        )
        raise SettingsError(f"{given} is set without {missing}; TLS needs both")
    for name, path in (("AHSE_TLS_CERT", certificate), ("AHSE_TLS_KEY", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"the file of {name} can't be read; check its path and permissions"
            ) from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise SettingsError(
            "AHSE_TLS_CERT and AHSE_TLS_KEY can't be used: both must be PEM files, the key without a "
            "password, and the key must be that of the first certificate"
        ) from error
    return {
        "ssl_certfile": certificate,
        "ssl_keyfile": key,
        "loop": f"{TlsLoop.__module__}:{TlsLoop.__name__}",
    }


def _no_password() -> str:
    """An encrypted key is refused: OpenSSL would ask for its password at the terminal."""
    return ""
