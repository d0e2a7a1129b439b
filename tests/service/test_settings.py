"""Settings: read from the environment, checked, and documented in full."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.errors import SettingsError
from service.faults import describe_fault
from service.settings import EVERYDAY_BUNDLE, Settings, settings_of

ROOT = Path(__file__).resolve().parents[2]


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is AHSE_ and a name in capitals; bundles are separated by commas; flags take precedence."""
    monkeypatch.setenv("AHSE_BUNDLES", "weights/a, weights/b")
    monkeypatch.setenv("AHSE_MAX_LABELS", "5")
    monkeypatch.setenv("AHSE_PORT", "9000")
    settings = Settings(port=9001)
    assert settings.bundles == (Path("weights/a"), Path("weights/b"))
    assert (settings.max_labels, settings.port) == (5, 9001)


def test_the_default_bundle_is_the_everyday_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found relative to the package, not to the working directory."""
    monkeypatch.delenv("AHSE_BUNDLES", raising=False)
    assert Settings().bundles == (EVERYDAY_BUNDLE,)
    assert (EVERYDAY_BUNDLE / "manifest.json").is_file()


@pytest.mark.parametrize(
    "flags",
    [
        {"max_labels": 0},
        {"device": "tpu"},
        {"bundles": ()},
        {"port": 70_000},
        {"store": "mysql://host/name"},
        {"store": "postgresql://host"},
        {"job_expiry_s": "inf"},
        {"job_max_duration_s": 1e15},
    ],
)
def test_invalid_settings_are_refused(flags: dict[str, object]) -> None:
    """This happens before anything starts."""
    with pytest.raises(ValidationError):
        Settings(**flags)  # type: ignore[arg-type]  # wrong on purpose


def test_an_admin_port_has_a_number_of_its_own() -> None:
    """Also on another address, where both could be bound: without a key metrics would be for everyone."""
    with pytest.raises(ValidationError) as raised:
        Settings(host="192.0.2.1", port=9000, admin_port=9000)
    (fault,) = (one for one in raised.value.errors() if one["loc"] == ("admin_port",))
    assert describe_fault(fault) == "is not acceptable: must differ from AHSE_PORT, on another address too"
    assert Settings(port=9000, admin_port=9001).admin_port == 9001
    assert Settings(port=0, admin_port=0).admin_port == 0  # both take a free one


def test_the_store_is_a_secret() -> None:
    """Its password is in no text of the settings, nor in what is said of an unacceptable one."""
    url = "postgresql://ahse:pa55word@host/name?sslmode=require"
    settings = Settings.model_validate({"store": url})
    assert settings.store is not None
    assert settings.store.get_secret_value() == url
    assert "pa55word" not in repr(settings)
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate({"store": url.replace("/name", "")})
    assert "pa55word" not in describe_fault(raised.value.errors()[0])
    assert "pa55word" not in str(raised.value)
    assert Settings.model_validate({"store": ""}).store is None


def test_unacceptable_settings_are_named_without_their_values() -> None:
    """All of them, each with what would be right."""
    with pytest.raises(SettingsError) as raised:
        settings_of({"store": "postgres://user:pa55word@host", "api_key": "too short", "max_labels": 0})
    assert raised.value.message == (
        "setting store (AHSE_STORE): is not acceptable: "
        "write it as postgresql://USER:PASSWORD@HOST/DATABASE; "
        "setting max_labels (AHSE_MAX_LABELS): must be at least 1; "
        "setting api_key (AHSE_API_KEY): is not acceptable: a key has 20 characters or more, without spaces; "
        "make one with: openssl rand -hex 32"
    )
    assert settings_of({"max_labels": 5}).max_labels == 5


@pytest.mark.parametrize("name", ["cors_origins", "allowed_hosts", "trusted_proxies"])
def test_lists_name_what_is_wrong_by_its_place(name: str) -> None:
    """A value may hold a password."""
    with pytest.raises(SettingsError, match="item 2 is no") as raised:
        settings_of(
            {name: "https://a.example, x://u:pa55word@b" if "cors" in name else "10.0.0.1, u:pa55word@b"}
        )
    assert "pa55word" not in raised.value.message


def test_every_setting_is_in_the_documented_table() -> None:
    """docs/settings.md has one row per setting, with its description, and no other rows."""
    text = (ROOT / "docs" / "settings.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `AHSE_")]
    documented = {row[1].strip().strip("`"): row[3].strip() for row in rows}
    expected = {f"AHSE_{name.upper()}": field.description for name, field in Settings.model_fields.items()}
    assert documented == expected
