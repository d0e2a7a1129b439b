"""TLS and proxies: what uvicorn is told."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from service.api.connection_options import TlsLoop, connection_options
from service.errors import SettingsError
from service.settings import Settings

Certificate = tuple[Path, Path]


def test_without_settings_there_is_no_tls_and_no_proxy_is_believed() -> None:
    """By default uvicorn believes whatever comes from 127.0.0.1."""
    assert connection_options(Settings()) == {"proxy_headers": False, "forwarded_allow_ips": []}


def test_files_that_cannot_be_used_are_refused_at_start(certificate: Certificate, tmp_path: Path) -> None:
    """Which setting is wrong, without path and without the text of OpenSSL."""
    damaged, other = tmp_path / "damaged.pem", tmp_path / "other.pem"
    damaged.write_text("no certificate")
    other.write_bytes(certificate[0].read_bytes())
    cert, key = certificate
    for files, says in [
        ((cert, None), "AHSE_TLS_CERT is set without AHSE_TLS_KEY"),
        ((None, key), "AHSE_TLS_KEY is set without AHSE_TLS_CERT"),
        ((tmp_path / "none.pem", key), "the file of AHSE_TLS_CERT can't be read"),
        ((cert, tmp_path / "none.pem"), "the file of AHSE_TLS_KEY can't be read"),
        ((damaged, key), "must be PEM files"),
        ((cert, other), "must be PEM files"),
    ]:
        with pytest.raises(SettingsError, match=says) as refused:
            connection_options(Settings(tls_cert=files[0], tls_key=files[1]))
        assert str(tmp_path) not in refused.value.message
    assert connection_options(Settings(tls_cert=cert, tls_key=key))["ssl_certfile"] == cert


def test_a_client_that_does_not_shake_hands_is_disconnected(certificate: Certificate) -> None:
    """After the deadline of the loop; asyncio alone would wait a minute."""
    assert TlsLoop.handshake_s == 10
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def silent_client() -> bytes:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            try:
                async with asyncio.timeout(30):
                    return await reader.read()
            finally:
                writer.close()

    def loop() -> asyncio.AbstractEventLoop:
        made = TlsLoop()
        made.handshake_s = 0.01
        return made

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(silent_client()) == b""


def test_the_loop_serves_without_tls_too() -> None:
    """A deadline of the handshake is refused by asyncio where there is no handshake."""

    async def listen() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=TlsLoop) as runner:
        runner.run(listen())


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.1/8", "10.0.0.0/99", "unix:"])
def test_a_proxy_is_an_address_or_a_network(proxy: str) -> None:
    """Anything else uvicorn would take for a name that never comes, or for everyone."""
    with pytest.raises(ValueError, match="no address or network"):
        Settings(trusted_proxies=(proxy,))
    assert Settings(trusted_proxies=("10.0.0.0/8", "::1")).trusted_proxies == ("10.0.0.0/8", "::1")


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("cors_origins", "*", "no origin"),
        ("cors_origins", "example.org", "no origin"),
        ("cors_origins", "https://example.org/", "no origin"),
        ("allowed_hosts", "https://example.org", "no host name"),
        ("rate_limit", "fast", "such as 600/minute"),
    ],
)
def test_lists_of_access_are_checked(setting: str, value: str, says: str) -> None:
    """A slip would otherwise let nobody in, or everyone."""
    with pytest.raises(ValueError, match=says):
        Settings(**{setting: value})  # type: ignore[arg-type]
