"""Files over a real connection: they arrive whole, are verified, and come from the cache the second time."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store

from model_export.errors import HubError
from model_export.hub.fetch import fetch, git_hash_of, is_hash, sha256_of
from model_export.hub.hub_requests import Hub, Wanted
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


def test_a_cached_file_is_not_downloaded_again(remote: LoopbackHub, hub: Hub) -> None:
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


def test_a_dropped_connection_is_resumed_within_one_call(remote: LoopbackHub, hub: Hub) -> None:
    """Within one call, twice, from the byte where it ended."""
    remote.cuts = [30_000, 50_000]
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    ranges = [asked.range for asked in remote.transfers if asked.path.startswith("/cdn/")]
    assert ranges == [None, "bytes=30000-", "bytes=50000-"]


def test_a_failed_download_leaves_nothing_and_the_next_run_starts_anew(remote: LoopbackHub, hub: Hub) -> None:
    """The connection is lost at the same byte until the library gives up."""
    remote.cuts = [30_000] * 6
    with pytest.raises(
        HubError, match=r"lost during the download of model\.safetensors .* run the same command"
    ):
        fetch(WANTED, hub)
    assert _visible(hub) == _partials(hub) == []
    remote.asked.clear()
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert {asked.range for asked in remote.transfers} == {None}


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


@pytest.fixture
def shared(hub: Hub) -> Path:
    """The content of the file, in the cache where the library shares that of Xet repositories."""
    blob = fetch(WANTED, hub).path.resolve()
    assert publish_blob_to_shared_store(
        blob_path=str(blob), xet_hash="5" * 64, cache_dir=str(hub.cache), expected_size=len(WEIGHTS)
    )
    return hub.cache / "blobs" / "55" / ("5" * 64)


def test_content_that_repositories_share_is_used(remote: LoopbackHub, hub: Hub, shared: Path) -> None:
    """The name at the end of two links is a hash too, but not of the kind that the file is checked by."""
    remote.status = 503
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS
    assert fetch(WANTED, hub).path.resolve() == shared.resolve()


def test_damaged_content_that_repositories_share_is_removed(
    remote: LoopbackHub, hub: Hub, shared: Path
) -> None:
    """With both links to it, so that the next run does not find it again."""
    shared.chmod(0o600)
    shared.write_bytes(WEIGHTS[:-1] + b"?")
    remote.status = 503
    with pytest.raises(HubError, match="damaged and has been removed"):
        fetch(WANTED, hub)
    kept = [path for path in hub.cache.rglob("*") if path.is_symlink() or path == shared]
    assert kept == []
    remote.status = None
    assert fetch(WANTED, hub).path.read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("network error"), "connection was lost during the download of model.safetensors of"),
        (RuntimeError("task\n  cancelled"), "MB) from {endpoint} failed (task cancelled)"),
        (PermissionError("token refresh failure"), "failed (token refresh failure)"),
    ],
)
def test_errors_of_another_way_of_transfer_say_how_to_go_without_it(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """hf_xet raises those of Python itself."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("model_export.hub.fetch.hf_hub_download", fail)
    with pytest.raises(HubError) as caught:
        fetch(WANTED, hub)
    assert said.format(endpoint=hub.endpoint) in str(caught.value)
    assert "run the same command again, with HF_HUB_DISABLE_XET=1" in str(caught.value)


def test_the_first_name_that_the_repository_has_is_taken(hub: Hub) -> None:
    """Older repositories have one format only."""
    wanted = Wanted(REPO, ("open_clip_model.safetensors", "model.safetensors"), "--image-checkpoint FILE")
    assert fetch(wanted, hub).path.name == "model.safetensors"


def test_a_missing_file_is_named(hub: Hub) -> None:
    """With the repository that lacks it and the option that takes another one."""
    with pytest.raises(HubError, match=r"someone/model .* has no file a\.bin or b\.bin: give --x FILE"):
        fetch(Wanted(REPO, ("a.bin", "b.bin"), "--x FILE"), hub)


def test_a_name_that_can_be_no_repository_is_refused(hub: Hub) -> None:
    """Before anyone is asked."""
    with pytest.raises(HubError, match="no repository name"):
        fetch(Wanted("a/b/c", WANTED.files, WANTED.option), hub)


@pytest.mark.parametrize("links", [True, False])
def test_files_copied_into_the_cache_by_hand_are_found(hub: Hub, tmp_path: Path, *, links: bool) -> None:
    """What the message advises works: the repository's folder copied, also by way of a disk without links."""
    fetch(WANTED, hub)
    here = Hub("http://127.0.0.1:1", tmp_path / "here")
    shutil.copytree(hub.cache / WANTED.folder, here.cache / WANTED.folder, symlinks=links)
    assert fetch(WANTED, here).path.read_bytes() == WEIGHTS


def test_an_endpoint_that_is_no_hub_is_reported(remote: LoopbackHub, hub: Hub) -> None:
    """A hash that is none: the file could not be checked."""
    remote.etags["model.safetensors"] = "W-123"
    with pytest.raises(HubError, match="check HF_ENDPOINT"):
        fetch(WANTED, hub)
    assert remote.transfers == []


def test_a_full_disk_is_reported_before_the_download(
    remote: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed and what to do."""
    monkeypatch.setattr(
        "model_export.hub.fetch.shutil.disk_usage", lambda _folder: SimpleNamespace(free=1000)
    )
    with pytest.raises(
        HubError, match=r"0\.1 MB are to be downloaded, but only 0\.0 MB are free .* HF_HUB_CACHE"
    ):
        fetch(WANTED, hub)
    assert remote.transfers == []


# printf 'hello\n' | sha256sum; printf 'hello\n' | git hash-object --stdin
SHA256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
GIT = "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A file with six bytes."""
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    return path


def test_hashes_are_those_of_sha256sum_and_git(hello: Path) -> None:
    """Of the same six bytes."""
    assert sha256_of(hello) == SHA256
    assert git_hash_of(hello) == GIT


@pytest.mark.parametrize(("etag", "expected"), [(SHA256, True), (GIT, True), ("", False), ("W-1", False)])
def test_only_a_hash_is_accepted_as_an_etag(etag: str, *, expected: bool) -> None:
    """The ETags of other servers do not state the content."""
    assert is_hash(etag) is expected
