"""Which addresses and names mean this machine, and whether it is safe to listen on an address."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from service.errors import SettingsError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there. An empty host means all addresses."""
    try:
        found = socket.getaddrinfo(host or None, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)


def check_exposure(hosts: Sequence[str], *, has_key: bool, is_open: bool) -> None:
    """Check that nobody gets in by accident.

    Args:
        hosts: Addresses that the service listens on.
        has_key: Whether requests need a key.
        is_open: Whether the deployment asks for a service without keys.

    Raises:
        SettingsError: A service without keys would listen on more than loopback without being asked to, or
            one with keys is asked to be open.
    """
    if is_open and has_key:
        raise SettingsError(
            "open (AHSE_OPEN, --open) lets everyone in, but there are keys; leave it out, or unset "
            "AHSE_API_KEY and revoke all keys (`ahse keys list`, `ahse keys revoke ID`)"
        )
    exposed = [host or "all addresses" for host in hosts if not is_loopback(host)]
    if exposed and not has_key and not is_open:
        raise SettingsError(
            f"without an API key the service listens on loopback only, not on {exposed[0]}. Either set a "
            "key, AHSE_API_KEY=$(openssl rand -hex 32), or make one with `ahse keys create`; or let everyone "
            "who reaches the port do everything, with --open or AHSE_OPEN=1"
        )


def name_in(host: str) -> str:
    """The name or address in a Host header, without the port and in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def is_address(name: str) -> bool:
    """Whether a name is an IP address, written out."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_allowed(host: str, allowed: Sequence[str]) -> bool:
    """Whether a Host header is `localhost`, an address, or of the list, in which `*` means any.

    In DNS rebinding a name of the attacker's resolves to this machine, so that a browser takes the attacker's
    page for a page of this service. What the browser sends as Host is that name, and never an address.
    """
    name = name_in(host)
    return "*" in allowed or name == "localhost" or is_address(name) or name in allowed
