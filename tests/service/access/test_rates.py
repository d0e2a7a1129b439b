"""Rates and daily bytes, on a clock that the tests move."""

from __future__ import annotations

import pytest

from service.access.rates import BoundedMemory, Rates, parse_rate
from service.errors import QuotaExceededError, RateLimitedError


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def test_one_request_too_many_is_told_when_to_come_back() -> None:
    """Exactly: a second earlier is refused, then is not. Refused requests are not counted."""
    clock = Clock()
    rates = Rates("3/minute", clock)
    for second in (0, 10, 20):
        clock.now = 1000.0 + second
        rates.count_address("192.0.2.1")
    clock.now = 1025.0
    for _ in range(5):
        with pytest.raises(RateLimitedError, match="3 requests in one minute") as refused:
            rates.count_address("192.0.2.1")
        assert refused.value.retry_after_s == 35
    clock.now = 1059.0
    with pytest.raises(RateLimitedError):
        rates.count_address("192.0.2.1")
    clock.now = 1060.0
    rates.count_address("192.0.2.1")
    with pytest.raises(RateLimitedError) as again:
        rates.count_address("192.0.2.1")
    assert again.value.retry_after_s == 10


def test_clients_are_counted_apart_and_keys_by_their_own_rate() -> None:
    """An address does not spend what a key may, nor one key what another may."""
    rates = Rates("1/minute", Clock())
    rates.count_address("192.0.2.1")
    rates.count_address("192.0.2.2")
    rates.count_key("a", None)
    rates.count_key("b", "2/hour")
    rates.count_key("b", "2/hour")
    with pytest.raises(RateLimitedError):
        rates.count_address("192.0.2.1")
    with pytest.raises(RateLimitedError):
        rates.count_key("a", None)
    with pytest.raises(RateLimitedError):
        rates.count_key("b", "2/hour")


def test_without_a_rate_nothing_is_limited() -> None:
    """The default; a key's own rate holds all the same."""
    rates = Rates("", Clock())
    for _ in range(1000):
        rates.count_address("192.0.2.1")
        rates.count_key("a", None)
    rates.count_key("b", "1/day")
    with pytest.raises(RateLimitedError):
        rates.count_key("b", "1/day")


def test_all_addresses_of_one_network_of_ipv6_are_one_client() -> None:
    """A subscriber has 2**64 of them; and an IPv4 address is the same in both notations."""
    rates = Rates("1/minute", Clock())
    rates.count_address("2001:db8::1")
    rates.count_address("2001:db8:0:1::1")
    rates.count_address("192.0.2.1")
    for same in ("2001:db8::ffff:1", "::ffff:192.0.2.1"):
        with pytest.raises(RateLimitedError):
            rates.count_address(same)


def test_memory_is_bounded_by_counters_and_by_requests() -> None:
    """What was used longest ago is forgotten first."""
    memory = BoundedMemory(Clock(), max_windows=100, max_requests=1000)
    for i in range(5000):
        assert memory.acquire_entry(f"client {i}", 3, 60)
    assert len(memory._windows) == 100
    assert memory.get_moving_window("client 4999", 3, 60)[1] == 1
    assert memory.get_moving_window("client 0", 3, 60)[1] == 0
    for i in range(50):
        for _ in range(100):
            assert memory.acquire_entry(f"busy {i}", 100, 60)
    n_requests = sum(len(window) for window in memory._windows.values())
    assert n_requests == memory._n_requests <= 1000


def test_addresses_cannot_make_the_service_forget_what_a_key_did() -> None:
    """However many there are."""
    rates = Rates("1/minute", Clock())
    rates.count_key("a", None)
    for i in range(20_000):
        rates.count_address(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
    with pytest.raises(RateLimitedError):
        rates.count_key("a", None)


def test_bytes_are_counted_for_a_day_from_the_first() -> None:
    """A body that would be too much is refused whole; what was refused is not counted by the check."""
    clock = Clock()
    rates = Rates("", clock)
    rates.count_bytes("a", 1000, 600)
    rates.check_bytes("a", 1000, 400)
    with pytest.raises(RateLimitedError, match="1000 bytes a day; 400 are left, and 401 were to come") as no:
        rates.check_bytes("a", 1000, 401)
    assert no.value.retry_after_s == 86_400
    rates.count_bytes("a", 1000, 400)
    with pytest.raises(RateLimitedError):
        rates.count_bytes("a", 1000, 1)
    rates.check_bytes("b", 1000, 1000)
    with pytest.raises(QuotaExceededError, match="1000 bytes a day, and the body has 1001"):
        rates.check_bytes("b", 1000, 1001)
    clock.now += 86_400
    rates.count_bytes("a", 1000, 1000)


@pytest.mark.parametrize(
    "text", ["", "fast", "1", "0/minute", "1/fortnight", "1/minute;2/hour", "999999/day"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    """With an example of one."""
    with pytest.raises(ValueError, match="such as 600/minute"):
        parse_rate(text)


def test_the_librarys_notations_are_read() -> None:
    """`limits` documents them."""
    assert parse_rate("600/minute") == parse_rate("600 per minute")
    assert parse_rate("10 per 5 seconds").get_expiry() == 5
