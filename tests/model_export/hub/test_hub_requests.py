"""Refusals of a hub say what to do, passing trouble is waited out, and the cache serves without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model_export.errors import HubError
from model_export.hub.fetch import fetch
from model_export.hub.hub_requests import Hub, Wanted
from tests.model_export.hub.conftest import REPO, random_weights
from tests.model_export.hub.loopback import LoopbackHub

WANTED = Wanted(REPO, ("model.safetensors",), "--image-checkpoint FILE")
WEIGHTS = random_weights(0)


def test_a_missing_repository_is_named(hub: Hub) -> None:
    """It may have been meant as a path."""
    with pytest.raises(HubError, match=r"no repository someone/else .* no such file or folder here"):
        fetch(Wanted("someone/else", WANTED.files, WANTED.option), hub)


def test_a_missing_revision_is_named(remote: LoopbackHub, hub: Hub) -> None:
    """A commit that the repository does not have."""
    with pytest.raises(HubError, match="has no revision gone"):
        fetch(Wanted(REPO, WANTED.files, WANTED.option, "gone"), hub)
    assert remote.transfers == []


def test_a_gated_repository_wants_its_terms_accepted(
    remote: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the user's token it opens; the token is for the hub, not for the host that it sends to."""
    remote.gated[REPO] = "hf_secret"
    with pytest.raises(HubError, match=f"accept its terms at {remote.endpoint}/{REPO}, then set HF_TOKEN"):
        fetch(WANTED, hub)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    elsewhere = [asked for asked in remote.asked if asked.path.startswith("/cdn/")]
    assert [asked.authorization for asked in elsewhere] == [None]


def test_a_refusal_without_a_token_asks_for_one(remote: LoopbackHub, hub: Hub) -> None:
    """A private mirror."""
    remote.status = 403
    with pytest.raises(HubError, match=r"refuses access to model\.safetensors .* set HF_TOKEN"):
        fetch(WANTED, hub)


def test_a_refusal_with_a_token_asks_for_another(
    remote: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logging in once more would change nothing."""
    monkeypatch.setenv("HF_TOKEN", "hf_readonly")
    remote.status = 403
    with pytest.raises(
        HubError, match=r"refuses access to model\.safetensors .* use a token with access to it"
    ):
        fetch(WANTED, hub)
    remote.status = None
    with pytest.raises(HubError, match="is private, use a token with access to it"):
        fetch(Wanted("someone/else", WANTED.files, WANTED.option), hub)


def test_a_rejected_token_is_reported_as_such(
    remote: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a public repository, which would be had without one."""
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    remote.rejected = "hf_expired"
    with pytest.raises(HubError, match="rejects the token that is set") as caught:
        fetch(WANTED, hub)
    assert "mistyped, expired or revoked" in str(caught.value)
    assert "log in" not in str(caught.value)
    assert "hf_expired" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS


def _assert_says_what_to_put_where(message: str, hub: Hub) -> None:
    assert "model.safetensors of someone/model is not in the cache" in message
    assert "Give --image-checkpoint FILE" in message
    copying = "HF_HUB_DISABLE_SHARED_BLOBS=1 hf download someone/model model.safetensors --cache-dir copied"
    assert f"`{copying}`" in message
    assert f"copy the folder copied/models--someone--model into {hub.cache}" in message


def test_without_a_network_the_error_says_which_files_to_copy_where(hub: Hub, tmp_path: Path) -> None:
    """Nobody listens on the port; what is in the cache still does."""
    fetch(WANTED, hub)
    nobody = "http://127.0.0.1:1"
    assert fetch(WANTED, Hub(nobody, hub.cache)).path.read_bytes() == WEIGHTS
    empty = Hub(nobody, tmp_path / "empty")
    with pytest.raises(HubError, match="can't be reached") as caught:
        fetch(WANTED, empty)
    _assert_says_what_to_put_where(str(caught.value), empty)


def test_offline_mode_uses_the_cache_and_asks_nobody(
    remote: LoopbackHub, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_OFFLINE is the user's word."""
    fetch(WANTED, hub)
    remote.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    empty = Hub(hub.endpoint, tmp_path / "empty")
    with pytest.raises(HubError, match="offline mode is on") as caught:
        fetch(WANTED, empty)
    _assert_says_what_to_put_where(str(caught.value), empty)
    assert remote.asked == []


def test_a_hub_that_answers_503_leaves_the_cache_usable(
    remote: LoopbackHub, hub: Hub, tmp_path: Path, pauses: list[float]
) -> None:
    """It answers, but with 503; who has a file does not wait, who has none hears of it in the end."""
    fetch(WANTED, hub)
    remote.status = 503
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert pauses == []
    with pytest.raises(HubError, match="answers with status 503, also when tried again"):
        fetch(WANTED, replace(hub, cache=tmp_path / "empty"))
    assert pauses == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({}, 1.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1.0),
        ({"RateLimit": '"api";r=0;t=55'}, 55.0),
        ({"RateLimit": '"api";r=12;t=55'}, 1.0),
    ],
)
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_requests_are_repeated_after_the_pause_that_the_hub_asks_for(
    status: int, headers: dict[str, str], pause_s: float, remote: LoopbackHub, hub: Hub, pauses: list[float]
) -> None:
    """For as long as the hub asks to be left alone."""
    remote.passing = [(status, headers)]
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert pauses == [pause_s]


def test_pauses_between_requests_grow(remote: LoopbackHub, hub: Hub, pauses: list[float]) -> None:
    """And the hub's own word counts where it is longer."""
    remote.passing = [(503, {}), (429, {"Retry-After": "30"}), (500, {})]
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert pauses == [1.0, 30.0, 4.0]


def test_a_pause_of_minutes_is_reported_instead_of_waited_for(
    remote: LoopbackHub, hub: Hub, pauses: list[float]
) -> None:
    """Nobody watches a still screen for so long."""
    remote.passing = [(429, {"Retry-After": "300"})]
    with pytest.raises(HubError, match=r"no more requests .*429\) and asks to be tried again in 300 s\."):
        fetch(WANTED, hub)
    assert pauses == []


def test_requests_refused_for_other_reasons_are_not_repeated(
    remote: LoopbackHub, hub: Hub, pauses: list[float]
) -> None:
    """A page that is not there will not be there in a second."""
    remote.status = 418
    with pytest.raises(HubError, match=r"answers with status 418\."):
        fetch(WANTED, hub)
    assert (pauses, len(remote.asked)) == ([], 1)
