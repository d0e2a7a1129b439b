"""What of the application of Ray Serve needs no Ray (the rest: tests/cluster/test_ray_serve.py)."""

from __future__ import annotations

from traceback import format_exception
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from service.api.ray_serve import Options, Replica, replica_settings
from service.errors import SettingsError


@pytest.fixture(autouse=True)
def _haproxy_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")


def test_the_proxy_that_keeps_uploads_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to set, and why."""
    monkeypatch.delenv("RAY_SERVE_ENABLE_HA_PROXY")
    with pytest.raises(SettingsError, match=r"RAY_SERVE_ENABLE_HA_PROXY=1 .* whole uploads in memory"):
        replica_settings(4, 0)


def test_a_replica_keeps_to_the_processors_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not to those of its node, which it sees; what was set by name counts."""
    few = replica_settings(3, 0)
    assert (few.decode_workers, few.max_concurrency, few.parallel_runs) == (3, 8, 3)
    assert replica_settings(32, 0).max_concurrency == 64
    assert replica_settings(3, 1).parallel_runs == 0
    monkeypatch.setenv("AHSE_DECODE_WORKERS", "2")
    monkeypatch.setenv("AHSE_MAX_CONCURRENCY", "5")
    own = replica_settings(3, 0)
    assert (own.decode_workers, own.max_concurrency) == (2, 5)


def test_it_counts_as_open_to_all_addresses() -> None:
    """So it starts with a key, or when it is open on purpose, only."""
    assert replica_settings(1, 0).host == "0.0.0.0"  # noqa: S104  (what is tested)


@pytest.mark.parametrize(
    ("name", "value"), [("AHSE_ADMIN_PORT", "9000"), ("AHSE_TLS_CERT", "/etc/certificate.pem")]
)
def test_what_serve_does_not_do_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than ignored."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name} can't be had behind Ray Serve"):
        replica_settings(1, 0)


def test_an_unacceptable_setting_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray shows the error and logs it; a URL of a database holds a password."""
    monkeypatch.setenv("AHSE_STORE", "postgres://user:pa55word@host")
    with pytest.raises(SettingsError, match=r"AHSE_STORE.*: is not acceptable") as raised:
        replica_settings(1, 0)
    assert "pa55word" not in "".join(format_exception(raised.value))


def test_misspelt_arguments_are_refused() -> None:
    """Serve itself takes any key."""
    with pytest.raises(ValidationError):
        Options.model_validate({"max_replica": 3})


@pytest.mark.parametrize(
    ("faults", "tried", "is_lost"),
    [
        ({"bundle toy": "does not work"}, True, True),
        ({"decoder": "does not work"}, True, True),
        ({"label store": "does not answer"}, True, False),
        ({"bundle toy": "was not tried yet"}, False, False),
        ({}, True, False),
    ],
)
def test_a_replica_is_replaced_for_what_it_has_lost_itself(
    faults: dict[str, str], *, tried: bool, is_lost: bool
) -> None:
    """Not for a store that is away, nor while it starts."""
    health = SimpleNamespace(faults=lambda: faults, wait_for_first=lambda _: tried)
    replica = Replica()
    replica.app = SimpleNamespace(state=SimpleNamespace(context=SimpleNamespace(health=health)))  # type: ignore[assignment]  # stands for an app
    if is_lost:
        with pytest.raises(RuntimeError, match="do not work"):
            replica.check_health()
    else:
        replica.check_health()
