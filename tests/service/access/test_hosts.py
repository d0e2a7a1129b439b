"""Which addresses are this machine, and where a service without keys may listen."""

from __future__ import annotations

import pytest

from service.access.hosts import check_exposure, is_allowed, is_loopback
from service.errors import SettingsError


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1"])
def test_loopback(host: str) -> None:
    """Names are looked up."""
    assert is_loopback(host)
    check_exposure([host], has_key=False, is_open=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "no-such-host.invalid"])  # noqa: S104
def test_what_others_reach_needs_a_key_or_to_be_asked_for(host: str) -> None:
    """The message has both remedies; with either of them it starts."""
    with pytest.raises(SettingsError, match=r"AHSE_API_KEY=.*ahse keys create.*--open or AHSE_OPEN=1"):
        check_exposure(["127.0.0.1", host], has_key=False, is_open=False)
    check_exposure([host], has_key=True, is_open=False)
    check_exposure([host], has_key=False, is_open=True)


def test_open_with_keys_is_a_contradiction() -> None:
    """Also on loopback: someone who made keys believes that they are needed."""
    with pytest.raises(SettingsError, match="there are keys"):
        check_exposure(["127.0.0.1"], has_key=True, is_open=True)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:80", "[::1]:8000", "192.0.2.1", "[::1]"]
)
def test_names_that_no_other_site_can_have(host: str) -> None:
    """They are always allowed."""
    assert is_allowed(host, ())


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example:8000", "", "0x7f.1"],
)
def test_names_that_could_be_anyones(host: str) -> None:
    """They are allowed by name, or all with `*`."""
    assert not is_allowed(host, ())
    assert not is_allowed(host, ("good.example",))
    assert is_allowed(host, ("*",))
    assert is_allowed("Good.example:8000", ("good.example",))
