"""Files over a real connection: they arrive whole, resume, are checked, and every refusal says what to do."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy

from model_export.errors import HubError
from model_export.hub.fetch import fetch
from model_export.hub.wanted import Hub, Wanted
from tests.model_export.hub.conftest import REPO, random_weights
from tests.model_export.hub.loopback import LoopbackHub

WANTED = Wanted(REPO, ("model.safetensors",), "--image-checkpoint FILE")
WEIGHTS = random_weights(0)


def _partials(hub: Hub) -> list[Path]:
    return sorted(hub.cache.rglob("*.incomplete"))


def _visible(hub: Hub) -> list[Path]:
    return [path for path in hub.cache.rglob("snapshots/*/*") if path.is_file()]


def test_a_file_arrives_with_its_hash_and_commit(remote: LoopbackHub, hub: Hub) -> None:
    """The tensors can be read from where it lies, and the user's other tools find it in the cache."""
    file = fetch(WANTED, hub)
    expected = np.random.default_rng(0).standard_normal((100, 200), dtype=np.float32)
    np.testing.assert_array_equal(safetensors.numpy.load_file(file.path)["tower.weight"], expected)
    assert file.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert file.commit == remote.commit(REPO)
    assert file.path == hub.cache / "models--someone--model" / "snapshots" / file.commit / "model.safetensors"
    assert _partials(hub) == []


def test_what_is_in_the_cache_is_not_downloaded_again(remote: LoopbackHub, hub: Hub) -> None:
    """The hub is only asked whether there is something newer."""
    first = fetch(WANTED, hub)
    n_transfers = len(remote.transfers)
    assert fetch(WANTED, hub) == first
    assert len(remote.transfers) == n_transfers


def test_a_newer_version_replaces_the_cached_one(remote: LoopbackHub, hub: Hub) -> None:
    """`main` moved on."""
    first = fetch(WANTED, hub)
    remote.files[REPO]["model.safetensors"] = random_weights(1)
    second = fetch(WANTED, hub)
    assert second.path.read_bytes() == random_weights(1)
    assert second.commit == remote.commit(REPO) != first.commit
    assert first.path.read_bytes() == WEIGHTS


def test_a_dropped_connection_is_taken_up_again(remote: LoopbackHub, hub: Hub) -> None:
    """Within one call, twice, from the byte where it ended."""
    remote.cuts = [30_000, 50_000]
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    ranges = [asked.range for asked in remote.transfers if asked.path.startswith("/cdn/")]
    assert ranges == [None, "bytes=30000-", "bytes=50000-"]


def test_the_next_run_goes_on_where_the_last_one_was_lost(remote: LoopbackHub, hub: Hub) -> None:
    """Until then nothing that looks finished is in the cache."""
    remote.cuts = [30_000] * 6
    with pytest.raises(HubError, match=r"lost after 0\.0 MB of 0\.1 MB .* run the same command again"):
        fetch(WANTED, hub)
    assert _visible(hub) == []
    assert [path.stat().st_size for path in _partials(hub)] == [30_000]
    remote.asked.clear()
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    asked_by_the_hub_and_where_it_sends = [asked.range for asked in remote.transfers]
    assert asked_by_the_hub_and_where_it_sends == ["bytes=30000-"] * 2
    assert _partials(hub) == []


def test_a_server_that_sends_everything_again_does_no_harm(remote: LoopbackHub, hub: Hub) -> None:
    """Some mirrors ignore Range."""
    remote.cuts = [30_000]
    remote.obeys_range = False
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS


def test_a_wrong_hash_is_refused_and_the_next_try_starts_clean(remote: LoopbackHub, hub: Hub) -> None:
    """The bytes are not those that the hub promised."""
    remote.etags["model.safetensors"] = hashlib.sha256(WEIGHTS).hexdigest()
    remote.files[REPO]["model.safetensors"] = random_weights(1)
    with pytest.raises(HubError, match="another hash"):
        fetch(WANTED, hub)
    assert _partials(hub) == _visible(hub) == []
    remote.files[REPO]["model.safetensors"] = WEIGHTS
    remote.asked.clear()
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert {asked.range for asked in remote.transfers} == {None}


def test_a_small_file_is_checked_by_its_git_hash(remote: LoopbackHub, hub: Hub) -> None:
    """Tokenizers and configurations are kept in git, not as large files."""
    wanted = Wanted(REPO, ("tokenizer.json",), "--tokenizer FILE")
    remote.files[REPO]["tokenizer.json"] = b'{"version": "1.0"}'
    assert fetch(wanted, hub).path.read_bytes() == b'{"version": "1.0"}'
    remote.files[REPO]["tokenizer.json"] = b'{"version": "2.0"}'
    remote.etags["tokenizer.json"] = "0" * 40
    with pytest.raises(HubError, match="another hash"):
        fetch(wanted, hub)


def test_a_damaged_file_in_the_cache_is_removed(remote: LoopbackHub, hub: Hub) -> None:
    """Also without a network; the next run downloads it anew."""
    blob = fetch(WANTED, hub).path.resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"?")
    remote.status = 503
    with pytest.raises(HubError, match="damaged and has been removed"):
        fetch(WANTED, hub)
    assert not blob.exists()
    remote.status = None
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS


def test_the_first_name_that_the_repository_has_is_taken(hub: Hub) -> None:
    """Older repositories have one format only."""
    wanted = Wanted(REPO, ("open_clip_model.safetensors", "model.safetensors"), "--image-checkpoint FILE")
    assert fetch(wanted, hub).path.name == "model.safetensors"


def test_a_missing_file_is_named(hub: Hub) -> None:
    """With the repository that lacks it and the option that takes another one."""
    with pytest.raises(HubError, match=r"someone/model .* has no file a\.bin or b\.bin: give --x FILE"):
        fetch(Wanted(REPO, ("a.bin", "b.bin"), "--x FILE"), hub)


def test_a_missing_repository_is_named(hub: Hub) -> None:
    """It may have been meant as a path."""
    with pytest.raises(HubError, match=r"no repository someone/else .* no such file or folder here"):
        fetch(Wanted("someone/else", WANTED.files, WANTED.option), hub)


def test_a_name_that_can_be_no_repository_is_refused(hub: Hub) -> None:
    """Before anyone is asked."""
    with pytest.raises(HubError, match="no repository name"):
        fetch(Wanted("a/b/c", WANTED.files, WANTED.option), hub)


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


def test_a_token_that_is_no_good_is_said_to_be_rejected(
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
    assert "`hf download someone/model model.safetensors`" in message
    assert f"copy the folder models--someone--model from its cache into {hub.cache}" in message


def test_no_network_says_what_to_put_where(hub: Hub, tmp_path: Path) -> None:
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


def test_a_hub_in_trouble_leaves_the_cache(
    remote: LoopbackHub, hub: Hub, tmp_path: Path, pauses: list[float]
) -> None:
    """It answers, but with 503; who has a file does not wait, who has none hears of it in the end."""
    fetch(WANTED, hub)
    remote.status = 503
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert pauses == []
    with pytest.raises(HubError, match="answers with status 503, also when asked again"):
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
def test_trouble_that_passes_is_waited_out(
    status: int, headers: dict[str, str], pause_s: float, remote: LoopbackHub, hub: Hub, pauses: list[float]
) -> None:
    """For as long as the hub asks to be left alone."""
    remote.passing = [(status, headers)]
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert pauses == [pause_s]


def test_pauses_grow(remote: LoopbackHub, hub: Hub, pauses: list[float]) -> None:
    """And the hub's own word counts where it is longer."""
    remote.passing = [(503, {}), (429, {"Retry-After": "30"}), (500, {})]
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert pauses == [1.0, 30.0, 4.0]


def test_a_pause_of_minutes_is_said_instead(remote: LoopbackHub, hub: Hub, pauses: list[float]) -> None:
    """Nobody watches a still screen for so long."""
    remote.passing = [(429, {"Retry-After": "300"})]
    with pytest.raises(HubError, match=r"no more requests .*429\) and wants to be asked again in 300 s\."):
        fetch(WANTED, hub)
    assert pauses == []


def test_other_refusals_are_not_asked_again(remote: LoopbackHub, hub: Hub, pauses: list[float]) -> None:
    """A page that is not there will not be there in a second."""
    remote.status = 418
    with pytest.raises(HubError, match=r"answers with status 418\."):
        fetch(WANTED, hub)
    assert (pauses, len(remote.asked)) == ([], 1)


@pytest.mark.parametrize("links", [True, False])
def test_what_was_cached_by_hand_is_found(hub: Hub, tmp_path: Path, *, links: bool) -> None:
    """What the message advises works: the repository's folder copied, also by way of a disk without links."""
    fetch(WANTED, hub)
    here = Hub("http://127.0.0.1:1", tmp_path / "here")
    shutil.copytree(hub.cache / WANTED.folder, here.cache / WANTED.folder, symlinks=links)
    assert fetch(WANTED, here).path.read_bytes() == WEIGHTS


def test_an_endpoint_that_is_no_hub_is_said(remote: LoopbackHub, hub: Hub) -> None:
    """A hash that is none: the file could not be checked."""
    remote.etags["model.safetensors"] = "W-123"
    with pytest.raises(HubError, match="check HF_ENDPOINT"):
        fetch(WANTED, hub)
    assert remote.transfers == []


def test_a_full_disk_is_said_before_the_download(
    remote: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed and what to do."""
    monkeypatch.setattr(
        "model_export.hub.transfer.shutil.disk_usage", lambda _folder: SimpleNamespace(free=1000)
    )
    with pytest.raises(HubError, match=r"0\.1 MB are still to .* only 0\.0 MB are free .* HF_HUB_CACHE"):
        fetch(WANTED, hub)
    assert remote.transfers == []
