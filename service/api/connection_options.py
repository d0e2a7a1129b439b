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


class TlsLoop(asyncio.SelectorEventLoop):
    """An event loop whose TLS servers end slow handshakes; uvicorn has no setting for it."""

    handshake_s = _HANDSHAKE_S

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], *args: Any, **kwargs: Any
    ) -> asyncio.Server:
        """As in asyncio."""
        if kwargs.get("ssl"):
            kwargs.setdefault("ssl_handshake_timeout", self.handshake_s)
        return await super().create_server(protocol_factory, *args, **kwargs)


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
