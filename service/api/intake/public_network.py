"""What may be reached of the public internet: URLs, and addresses, to which a name is resolved once."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from weakref import WeakValueDictionary

import httpcore2
import httpx2

from service.api.guard.guarded_store import Requester, current_requester
from service.errors import UrlRefusedError

Address = IPv4Address | IPv6Address
Resolve = Callable[[str], Awaitable[list[Address]]]
"""All addresses of a host name."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
# Below are mail, remote shells and the like, to which a stranger's request must not be carried; object stores
# and media servers often listen on high ports.
_OPEN_PORTS = {80, 443, *range(1024, 65536)}
# Lookups at once, and those of one client.
_MAX_LOOKUPS, _MAX_OF_ONE = 64, 8

# One request must not become a scan of whatever its host name lists.
_MAX_ADDRESSES = 4

# Beside what `ipaddress` calls not global, which differs between releases of Python. Source: the registries
# of special-purpose addresses of IANA (RFC 6890).
_NOT_PUBLIC: list[IPv4Network | IPv6Network] = [
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("2001::/23"),  # protocol assignments, among them Teredo, which embeds IPv4
    IPv6Network("2001:db8::/32"),  # documentation
    IPv6Network("2002::/16"),  # 6to4, which embeds IPv4
    IPv6Network("3fff::/20"),  # documentation
]
# Global unicast; outside are loopback, link-local, site-local and unique local addresses, and multicast.
_UNICAST = IPv6Network("2000::/3")
# An IPv4 address as hosts without IPv4 see it (RFC 6052).
_NAT64 = IPv6Network("64:ff9b::/96")


def public_url(url: str | httpx2.URL, what: str) -> httpx2.URL:
    """Read a URL that may lead to the public internet. Its host is checked when connecting.

    Args:
        url: As a client sent it, or as a redirect made it.
        what: What is there, for the message: the URL of the ...

    Raises:
        UrlRefusedError: It is damaged, of another scheme, holds credentials, or has a port of other services.
    """
    try:
        url = httpx2.URL(url)
    except httpx2.InvalidURL:
        raise UrlRefusedError(f"The URL of the {what} is not well-formed.") from None
    if url.scheme not in _DEFAULT_PORTS or not url.host:
        raise UrlRefusedError(f"The URL of the {what} must begin with http:// or https:// and a host.")
    if url.userinfo:
        raise UrlRefusedError(f"The URL of the {what} must not hold a user name or password.")
    port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if port not in _OPEN_PORTS:
        raise UrlRefusedError(f"The URL of the {what} must have one of the ports 80, 443 and 1024 to 65535.")
    return url


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet; one that embeds an IPv4 address is judged by that."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _UNICAST:
            return False
    special = any(address.version == network.version and address in network for network in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not special


def is_own(address: Address) -> bool:
    """Whether this machine has the address itself; what listens there may be behind a firewall for others."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        probe = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:  # the kernel has no such addresses
            return False
        raise
    with probe:
        try:
            probe.connect((str(address), 443))  # chooses a route; nothing is sent
        except OSError:
            return False
        return ip_address(probe.getsockname()[0]) == address


def is_allowed(address: Address) -> bool:
    """Whether clips may be fetched from an address."""
    return is_public(address) and not is_own(address)


class Resolver:
    """Asks the system's resolver, in threads of its own.

    A name server that does not answer keeps a thread until the system gives up, though nobody may wait for it
    any longer. So a client, or behind requests a host, has a few of the threads, and its further lookups wait
    for these. Lookups of another resolver wait for none of them.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MAX_LOOKUPS, "resolver")
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def resolve(self, host: str) -> list[Address]:
        """All addresses of a host.

        Raises:
            OSError, UnicodeError: There is no such name.
        """
        turns = self._turns.setdefault(_asker_of(host), asyncio.Semaphore(_MAX_OF_ONE))
        await turns.acquire()
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        lookup = asyncio.get_running_loop().run_in_executor(self._threads, ask)
        lookup.add_done_callback(partial(_end_turn, turns))
        await asyncio.wait([lookup])  # which goes on if nobody waits any longer, since its thread does
        return [ip_address(where[0]) for *_, where in lookup.result()]


def _end_turn(turns: asyncio.Semaphore, lookup: asyncio.Future[Any]) -> None:
    turns.release()
    if not lookup.cancelled():
        lookup.exception()  # looked at, or asyncio would log the failure of one that nobody waits for


def _asker_of(host: str) -> str:
    """Whose lookups of a host are counted together: the client's who asks, or else the host's."""
    requester = current_requester.get()
    if requester.key is not None:
        return requester.key.id
    return host if requester == Requester() else requester.client


class PublicNetwork(httpcore2.AsyncNetworkBackend):
    """Opens the connections of an HTTP client, each to an address that was checked in the same step.

    The client knows the host name only, so the header `Host` and the name in TLS stay as they are, and no
    address reaches it that was not checked: an answer of DNS that changes between check and connection (DNS
    rebinding) changes nothing, as there is no second question.

    Args:
        resolve: Finds the addresses of a name; None: in threads of its own.
        is_allowed: Whether an address may be connected to.
    """

    def __init__(
        self, resolve: Resolve | None = None, is_allowed: Callable[[Address], bool] = is_allowed
    ) -> None:
        self._resolve = resolve or Resolver().resolve
        self._is_allowed = is_allowed
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of a host that answers.

        Raises:
            UrlRefusedError: The host has no address, or one that is not allowed.
            httpcore2.ConnectError, httpcore2.ConnectTimeout: No address could be connected to.
        """
        failure: Exception = httpcore2.ConnectError()
        for address in (await self._checked_addresses(host, timeout))[:_MAX_ADDRESSES]:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def check(self, host: str, timeout_s: float) -> None:
        """Resolve a host without connecting to it.

        Raises:
            UrlRefusedError: The host has no address, or one that is not allowed.
            httpcore2.ConnectTimeout: It took too long.
        """
        await self._checked_addresses(host, timeout_s)

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore2.AsyncNetworkStream:
        """Refuse: it would be a service of this machine."""
        raise UrlRefusedError("Clips are not fetched from sockets of this machine.")

    async def sleep(self, seconds: float) -> None:
        """Wait, as the client does before it tries again."""
        await self._network.sleep(seconds)

    async def _checked_addresses(self, host: str, timeout_s: float | None) -> list[Address]:
        try:
            async with asyncio.timeout(timeout_s):
                addresses = await self._resolve(host)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except (OSError, UnicodeError):
            addresses = []
        # One answer for unknown names and for names of private addresses, or it would tell which names a
        # private network has. A name with addresses of both kinds is refused: chance would decide.
        if not addresses or not all(map(self._is_allowed, addresses)):
            raise UrlRefusedError(
                "The host of the URL, or of a redirect from it, has no address on the public internet; clips "
                "are not fetched from private networks or from this machine."
            )
        return addresses
