"""TLS and proxies: what uvicorn is told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from service.api.guard.connection_options import TlsLoop, connection_options
from service.errors import SettingsError
from service.settings import Settings

Certificate = tuple[Path, Path]
Address = tuple[str, int]


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


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        assert transport.get_extra_info("ssl_object") is not None
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)
        self._transport.close()


def _connected(address: Address) -> socket.socket:
    one = socket.create_connection(address)
    one.settimeout(0)
    return one


async def _until_closed(one: socket.socket) -> bytes:
    """All that the server sends."""
    received = b""
    async with asyncio.timeout(30):
        while data := await asyncio.get_running_loop().sock_recv(one, 2**16):
            received += data
    return received


def _run_with_tls(
    certificate: Certificate, client: Callable[[Address, ssl.SSLContext], Awaitable[None]], **bounds: float
) -> None:
    """Run a client beside a TLS server on a loop with these bounds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Echo, "127.0.0.1", 0, ssl=context)
        async with server:
            await client(server.sockets[0].getsockname(), ssl.create_default_context(cafile=certificate[0]))

    with asyncio.Runner(loop_factory=lambda: TlsLoop(**bounds)) as runner:  # type: ignore[arg-type]
        runner.run(serve())


def test_a_client_that_does_not_shake_hands_is_disconnected(certificate: Certificate) -> None:
    """After the deadline of the loop; asyncio alone would wait a minute."""

    async def silent_client(address: Address, _: ssl.SSLContext) -> None:
        with _connected(address) as one:
            assert await _until_closed(one) == b""

    _run_with_tls(certificate, silent_client, handshake_s=0.01)


def test_too_many_handshakes_end_those_that_began_first(certificate: Certificate) -> None:
    """And a client that does shake hands is served beside the silent ones."""

    async def clients(address: Address, trusted: ssl.SSLContext) -> None:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(_connected(address)) for _ in range(5)]
            assert [await _until_closed(one) for one in silent[:2]] == [b"", b""]
            reader, writer = await asyncio.open_connection(*address, ssl=trusted)
            writer.write(b"hello")
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()
            assert await _until_closed(silent[2]) == b""
            for one in silent[3:]:
                with pytest.raises(BlockingIOError):
                    one.recv(1)

    _run_with_tls(certificate, clients, handshake_s=30, max_handshakes=3)


def test_a_burst_of_connections_leaves_nothing_behind(certificate: Certificate) -> None:
    """They are accepted in one turn of the loop, and most are broken off before their handshake begins."""

    def handshakes() -> set[int]:
        gc.collect()
        # Not isinstance: that asks some objects of other tests for their class, which they warn of.
        return {id(one) for one in gc.get_objects() if type(one) is SSLProtocol}

    before = handshakes()

    async def burst(address: Address, _: ssl.SSLContext) -> None:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(_connected(address)) for _ in range(60)]
            assert [await _until_closed(one) for one in silent[:57]] == 57 * [b""]
            assert len(handshakes() - before) <= 3

    _run_with_tls(certificate, burst, handshake_s=30, max_handshakes=3)


def test_what_is_sent_in_the_clear_is_never_read(certificate: Certificate) -> None:
    """It is no handshake, so the connection ends, with the alert that OpenSSL sends at most."""

    async def clear(address: Address, _: ssl.SSLContext) -> None:
        with _connected(address) as one:
            one.send(b"GET / HTTP/1.1\r\n\r\n")
            assert b"GET" not in await _until_closed(one)

    _run_with_tls(certificate, clear)


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
