"""Which addresses may be connected to, and that no other ever is."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address

import httpcore2
import pytest

from service.api.guard.guarded_store import Requester, current_requester
from service.api.intake.public_network import Address, PublicNetwork, Resolver, is_allowed, is_own, is_public
from service.errors import UrlRefusedError
from tests.service.api.intake.clip_server import WAIT_S, ClipServer, Names, loopback_network, ok

PRIVATE = [
    *(
        "0.0.0.0",  # noqa: S104  (not listened on)
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.8.9.1",
        "169.254.169.254",
        "172.16.0.1",
    ),
    *("172.31.255.255", "192.0.0.8", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *(
        "::",
        "::1",
        "::7f00:1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ),
    *("100::1", "5f00::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1"),
]
# The metadata address of clouds and a private one inside IPv6: mapped, NAT64, local NAT64, 6to4, Teredo.
EMBEDDED = [
    *("::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1"),
    *(
        "64:ff9b:1::10.0.0.1",
        "2002:a9fe:a9fe::1",
        "2002:a00:1::",
        "2001:0:a00:1::",
        "2001:0:4136:e378:0:0:5601:5601",
    ),
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.32.0.1", "192.0.1.1", "2606:4700::1111"]
PUBLIC_EMBEDDED = ["::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]


@pytest.mark.parametrize("address", [*PRIVATE, *EMBEDDED])
def test_special_addresses_are_not_public(address: str) -> None:
    """Neither themselves nor inside an IPv6 address."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_EMBEDDED])
def test_ordinary_addresses_are_public(address: str) -> None:
    """Also next to special ones, and those that a host without IPv4 sees translated."""
    assert is_public(ip_address(address))


def _socket_without_ipv6(family: int, *_: object) -> socket.socket:
    """As on a kernel that was started without IPv6."""
    assert family == socket.AF_INET6
    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")


def test_nothing_is_allowed_when_it_can_not_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many open files, whether an address is this machine's own is not known."""

    def full(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    with pytest.raises(OSError, match="Too many open files"):
        is_allowed(ip_address("8.8.8.8"))


def test_an_address_of_this_machine_is_not_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a public one: what listens there may be behind a firewall for everybody else."""
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("192.0.2.1"))
    with monkeypatch.context() as without_ipv6:
        without_ipv6.setattr(socket, "socket", _socket_without_ipv6)
        assert not is_own(ip_address("2606:4700::1"))
    monkeypatch.setattr("service.api.intake.public_network.is_own", lambda _: False)
    assert is_allowed(ip_address("8.8.8.8"))
    monkeypatch.setattr("service.api.intake.public_network.is_own", lambda _: True)
    assert not is_allowed(ip_address("8.8.8.8"))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "017700000001", "127.1", "localhost", "localhost.", "0", "::1"],
)
def test_every_way_to_write_this_machine_is_refused(host: str) -> None:
    """The system's resolver reads them all; its answer is checked, not the text."""
    with pytest.raises(UrlRefusedError, match="no address on the public internet"):
        asyncio.run(PublicNetwork().connect_tcp(host, 80))


def test_names_are_resolved_by_the_system() -> None:
    """To the addresses that a connection would take."""
    assert ip_address("127.0.0.1") in asyncio.run(Resolver().resolve("localhost"))


@pytest.mark.parametrize("answer", [[], ["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["10.0.0.1", "127.0.0.1"]])
def test_a_name_with_any_address_that_is_not_allowed_is_refused(answer: list[str]) -> None:
    """Here only 127.0.0.1 is allowed; nothing is connected to, and the text names no address."""
    with ClipServer({}) as server, pytest.raises(UrlRefusedError) as refused:
        asyncio.run(
            loopback_network(Names({"mixed.example": [answer]})).connect_tcp("mixed.example", server.port)
        )
    assert server.heads == []
    assert not server.entered.acquire(blocking=False)
    assert not any(address in refused.value.message for address in ["10.0", "127.0", "mixed"])


def test_an_unknown_name_has_the_same_answer_as_a_private_one() -> None:
    """Else the answer would tell which names a private network has."""
    network = loopback_network(Names({"intranet": [["10.0.0.1"]]}))
    texts = set()
    for host in ["intranet", "nothing.example", "x" * 64 + ".example"]:
        with pytest.raises(UrlRefusedError) as refused:
            asyncio.run(network.connect_tcp(host, 80))
        texts.add(refused.value.message)
    assert len(texts) == 1


def test_a_name_is_resolved_once_so_that_rebinding_changes_nothing() -> None:
    """The second answer of DNS would lead elsewhere; it is never asked for."""
    names = Names({"rebinding.example": [["127.0.0.1"], ["10.0.0.1"]]})

    async def connect() -> None:
        stream = await loopback_network(names).connect_tcp("rebinding.example", server.port)
        assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
        await stream.aclose()

    with ClipServer({}) as server:
        asyncio.run(connect())
    assert names.asked == ["rebinding.example"]


def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    """As of a host with IPv6 where only IPv4 is routed; four addresses at most."""

    def connect(addresses: list[str]) -> None:
        async def opened_and_closed() -> None:
            network = PublicNetwork(Names({"clips.example": [addresses]}).resolve, lambda _: True)
            await (await network.connect_tcp("clips.example", server.port)).aclose()

        asyncio.run(opened_and_closed())

    with ClipServer({"/": ok(b"")}) as server:
        connect(["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"])
        with pytest.raises(httpcore2.ConnectError):
            connect(["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.1"])


def test_a_resolver_that_does_not_answer_is_a_timeout() -> None:
    """Within the time that connecting may take."""

    async def silent(_: str) -> list[Address]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(httpcore2.ConnectTimeout):
        asyncio.run(PublicNetwork(silent).connect_tcp("slow.example", 80, timeout=0.01))


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The name server of slow.example gives no answer before the end of the test; others do at once."""
    ended = threading.Event()

    def look_up(host: str, *_: object, **__: object) -> list[object]:
        if host.endswith("slow.example"):
            ended.wait(WAIT_S)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield
    ended.set()


async def _ask_in_vain(network: PublicNetwork, *hosts: str) -> None:
    """Ask for hosts at once, and leave before there is an answer."""
    answers = await asyncio.gather(*(network.check(host, 0.01) for host in hosts), return_exceptions=True)
    assert [type(answer) for answer in answers] == [httpcore2.ConnectTimeout] * len(hosts)


SLOW = [f"{number}.slow.example" for number in range(100)]


@pytest.mark.usefixtures("silent_server")
def test_slow_names_of_a_client_hold_up_its_own_lookups_only() -> None:
    """It has left, but the system still asks for its names."""

    async def ask() -> None:
        network = PublicNetwork(is_allowed=lambda _: True)
        current_requester.set(Requester(client="192.0.2.1"))
        await _ask_in_vain(network, *SLOW)
        await _ask_in_vain(network, "fast.example")
        current_requester.set(Requester(client="192.0.2.2"))
        await network.check("fast.example", WAIT_S / 4)

    asyncio.run(ask())


@pytest.mark.usefixtures("silent_server")
def test_slow_names_behind_requests_hold_up_lookups_of_their_host_only() -> None:
    """A report for a host that is not found is no reason not to send others."""

    async def ask() -> None:
        network = PublicNetwork(is_allowed=lambda _: True)
        await _ask_in_vain(network, *["slow.example"] * 100)
        await network.check("fast.example", WAIT_S / 4)

    asyncio.run(ask())


@pytest.mark.usefixtures("silent_server")
def test_slow_names_hold_up_nothing_but_their_network() -> None:
    """Clips are not fetched, perhaps, but webhooks are sent, and other work of the event loop goes on."""

    async def ask() -> None:
        clips, webhooks = (PublicNetwork(is_allowed=lambda _: True) for _ in range(2))
        await _ask_in_vain(clips, *SLOW)
        await webhooks.check("fast.example", WAIT_S / 4)
        assert await asyncio.to_thread(len, SLOW) == len(SLOW)

    asyncio.run(ask())


def test_nothing_is_logged_of_lookups_that_fail_when_nobody_waits_any_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or clients could fill the log."""
    left, logged = threading.Event(), list[dict[str, object]]()

    def look_up(*_: object, **__: object) -> list[object]:
        left.wait(WAIT_S)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    async def ask() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        network = PublicNetwork(is_allowed=lambda _: True)
        await _ask_in_vain(network, "slow.example")
        left.set()
        with pytest.raises(UrlRefusedError):
            await network.check("slow.example", WAIT_S)
        gc.collect()

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.run(ask())
    assert not logged


def test_sockets_of_this_machine_are_refused() -> None:
    """The client has a way to ask for them."""
    with pytest.raises(UrlRefusedError):
        asyncio.run(PublicNetwork().connect_unix_socket("/run/docker.sock", timeout=1))
