"""Pins: the commit that is asked for, the bytes that are taken, and what a bundle pins."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model_export.errors import HubError
from model_export.hub.checkpoints import (
    LAION_CLAP,
    LAION_CLAP_FILES,
    clap_checkpoint,
    open_clip_checkpoint,
    open_clip_repository,
    tokenizer_file,
)
from model_export.hub.fetch import fetch
from model_export.hub.hub_requests import Hub, Wanted
from model_export.hub.pins import DEFAULT_PINS, Pin, Pins, pins_of
from service.errors import BundleInvalidError
from tests.model_export.hub.conftest import REPO, random_weights
from tests.model_export.hub.loopback import LoopbackHub
from tests.toy import write_toy_bundle

FILE = "model.safetensors"
WANTED = Wanted(REPO, (FILE,), "--image-checkpoint FILE")
WEIGHTS = random_weights(0)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
OTHER = "0" * 64


def _pinned(hub: Hub, revision: str, files: dict[str, str], *, complete: bool = False) -> Hub:
    return replace(hub, pins=Pins((Pin(REPO, revision, files),), complete))


def test_the_pinned_commit_is_asked_for(remote: LoopbackHub, hub: Hub) -> None:
    """By its name, so that `main` may move on."""
    commit = remote.commit(REPO)
    file = fetch(WANTED, _pinned(hub, commit, {FILE: SHA256}))
    assert (file.commit, file.sha256, file.repo) == (commit, SHA256, REPO)
    asked = [one.path for one in remote.asked if "/resolve/" in one.path]
    assert asked
    assert all(path.startswith(f"/{REPO}/resolve/{commit}/") for path in asked)


def test_a_pinned_file_in_the_cache_is_not_asked_for(remote: LoopbackHub, hub: Hub) -> None:
    """A commit has no newer version."""
    pinned = _pinned(hub, remote.commit(REPO), {FILE: SHA256})
    first = fetch(WANTED, pinned)
    remote.asked.clear()
    assert fetch(WANTED, pinned) == first
    assert remote.asked == []


def test_other_bytes_than_the_pinned_ones_are_refused_before_they_come(remote: LoopbackHub, hub: Hub) -> None:
    """The hub says what it has; the message names both hashes and what to do."""
    with pytest.raises(HubError) as caught:
        fetch(WANTED, _pinned(hub, remote.commit(REPO), {FILE: OTHER}))
    said = str(caught.value)
    assert f"{FILE} of {REPO} has the SHA-256 {SHA256}, but {OTHER} is pinned" in said
    assert "--image-revision, --audio-revision, or other --pins" in said
    assert remote.transfers == []


def test_other_bytes_of_a_small_file_are_refused_too(remote: LoopbackHub, hub: Hub) -> None:
    """The hub gives git's hash of it, so it has to come first."""
    remote.files[REPO]["tokenizer.json"] = b"{}"
    wanted = replace(WANTED, files=("tokenizer.json",))
    with pytest.raises(HubError, match=f"but {OTHER} is pinned"):
        fetch(wanted, _pinned(hub, remote.commit(REPO), {"tokenizer.json": OTHER}))


def test_other_bytes_in_the_cache_are_refused_without_a_network(remote: LoopbackHub, hub: Hub) -> None:
    """They came when nothing was pinned."""
    commit = fetch(WANTED, hub).commit or ""
    remote.status = 503
    with pytest.raises(HubError, match="is pinned"):
        fetch(WANTED, _pinned(hub, commit, {FILE: OTHER}))


def test_a_file_without_a_hash_is_that_of_the_pinned_commit(remote: LoopbackHub, hub: Hub) -> None:
    """Where only the commit is known."""
    assert fetch(WANTED, _pinned(hub, remote.commit(REPO), {})).sha256 == SHA256
    with pytest.raises(HubError, match="has no revision gone: name another one with --image-revision"):
        fetch(WANTED, _pinned(hub, "gone", {}))


def test_without_a_network_the_advice_names_the_pinned_version(hub: Hub, tmp_path: Path) -> None:
    """Another one would not be found in the cache."""
    nobody = replace(_pinned(hub, "a" * 40, {}), endpoint="http://127.0.0.1:1", cache=tmp_path / "empty")
    with pytest.raises(HubError, match=f"hf download {REPO} {FILE} --revision {'a' * 40} "):
        fetch(WANTED, nobody)


def test_the_name_that_is_pinned_is_preferred(remote: LoopbackHub, hub: Hub) -> None:
    """A repository that was converted since still gives the pinned file."""
    remote.files[REPO]["pytorch_model.bin"] = b"older"
    pinned = _pinned(hub, remote.commit(REPO), {"pytorch_model.bin": hashlib.sha256(b"older").hexdigest()})
    wanted = replace(WANTED, files=(FILE, "pytorch_model.bin"))
    assert fetch(wanted, pinned).path.read_bytes() == b"older"


def test_another_revision_is_free_of_the_pins_hashes(remote: LoopbackHub, hub: Hub) -> None:
    """Whoever names one means other bytes; the same commit keeps them."""
    commit = remote.commit(REPO)
    pinned = _pinned(hub, commit, {FILE: OTHER})
    assert fetch(WANTED, pinned.at(REPO, "main")).sha256 == SHA256
    with pytest.raises(HubError, match="is pinned"):
        fetch(WANTED, pinned.at(REPO, commit))
    assert pinned.at(REPO, None) == pinned


def test_complete_pins_allow_nothing_else(remote: LoopbackHub, hub: Hub, tmp_path: Path) -> None:
    """No other file, no other version, no other bytes of a local file."""
    with pytest.raises(HubError, match=rf"{FILE} of {REPO} is not among the sources"):
        fetch(WANTED, replace(hub, pins=Pins(complete=True)))
    pinned = _pinned(hub, remote.commit(REPO), {FILE: OTHER}, complete=True)
    with pytest.raises(HubError, match="is pinned"):
        fetch(WANTED, pinned.at(REPO, "main"))
    path = tmp_path / "tokenizer.json"
    path.write_bytes(b"{}")
    with pytest.raises(HubError, match="which no source of the bundle that --pins names has"):
        tokenizer_file(str(path), hub=pinned)
    path.write_bytes(WEIGHTS)
    known = _pinned(hub, remote.commit(REPO), {FILE: SHA256}, complete=True)
    assert tokenizer_file(str(path), hub=known).sha256 == SHA256, "a copy of a pinned file, by another name"


def _manifest(folder: Path, *sources: dict[str, Any]) -> Path:
    write_toy_bundle(folder)
    path = folder / "manifest.json"
    document = json.loads(path.read_text())
    document["provenance"]["sources"] = list(sources)
    path.write_text(json.dumps(document))
    return folder


def test_a_bundle_pins_what_it_was_made_of(tmp_path: Path) -> None:
    """Each file by its hash, each repository by its commit."""
    hub_file = {"repository": REPO, "revision": "a" * 40}
    bundle = _manifest(
        tmp_path / "b",
        {"part": "image encoder", **hub_file, "file": FILE, "sha256": SHA256},
        {"part": "image tokenizer", **hub_file, "file": "tokenizer.json", "sha256": OTHER},
        {"part": "audio encoder", "file": "mine.pt", "sha256": "1" * 64},
    )
    files = {FILE: SHA256, "tokenizer.json": OTHER}
    assert pins_of(bundle) == Pins((Pin(REPO, "a" * 40, files),), complete=True, local=frozenset({"1" * 64}))


def test_a_bundle_that_records_nothing_pins_nothing(tmp_path: Path) -> None:
    """Rather than be taken for one that allows everything."""
    with pytest.raises(HubError, match="records no sources, so it pins nothing"):
        pins_of(_manifest(tmp_path / "b"))
    with pytest.raises(BundleInvalidError):
        pins_of(tmp_path)


def test_default_pins_are_commits_and_hashes_of_files_that_are_asked_for() -> None:
    """A typing slip would refuse the right file."""
    for pin in DEFAULT_PINS.pins:
        assert re.fullmatch(r"[0-9a-f]{40}", pin.revision), pin.repo
        assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in pin.files.values()), pin.repo
    assert len({pin.repo for pin in DEFAULT_PINS.pins}) == len(DEFAULT_PINS.pins)
    clap = DEFAULT_PINS.of(LAION_CLAP)
    assert clap is not None
    assert set(clap.files) <= set(LAION_CLAP_FILES.values())


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("ViT-B-32", "openai"),
        ("ViT-L-14", "openai"),
        ("MobileCLIP2-S0", "dfndr2b"),
        ("MobileCLIP2-S2", "dfndr2b"),
        ("PE-Core-B-16", "meta"),
        ("ViT-B-16-SigLIP2", "webli"),
    ],
)
def test_named_checkpoints_are_pinned(model: str, tag: str) -> None:
    """Under the repository that open_clip asks."""
    assert DEFAULT_PINS.of(open_clip_repository(model, tag) or "") is not None


def test_checkpoints_are_taken_as_pinned(remote: LoopbackHub, hub: Hub) -> None:
    """open_clip's, LAION's and transformers', each with its files for the manifest."""
    openai = "timm/vit_base_patch32_clip_224.openai"
    clap = "laion/clap-htsat-unfused"
    remote.files |= {
        openai: {"open_clip_model.safetensors": random_weights(1)},
        LAION_CLAP: dict.fromkeys(LAION_CLAP_FILES.values(), b"weights"),
        clap: {"config.json": b"{}", "preprocessor_config.json": b"{}", "pytorch_model.bin": b"weights"},
    }
    pins = Pins(tuple(Pin(repo, remote.commit(repo)) for repo in (openai, LAION_CLAP, clap)))
    pinned = replace(hub, pins=pins)
    found = [
        open_clip_checkpoint("ViT-B-32", "openai", pinned),
        clap_checkpoint("630k-audioset", pinned),
        clap_checkpoint(clap, pinned),
    ]
    names = [[file.path.name for file in one.files] for one in found]
    assert names == [
        ["open_clip_model.safetensors"],
        ["630k-audioset-best.pt"],
        ["pytorch_model.bin", "config.json", "preprocessor_config.json"],
    ]
    assert [{file.commit for file in one.files} for one in found] == [{pin.revision} for pin in pins.pins]
    other = Pins((Pin(LAION_CLAP, "main", {"630k-audioset-best.pt": OTHER}),))
    assert clap_checkpoint("630k", replace(hub, pins=other)).files[0].commit == remote.commit(LAION_CLAP)
    with pytest.raises(HubError, match=rf"630k-audioset-best\.pt of {LAION_CLAP} .* is pinned"):
        clap_checkpoint("630k-audioset", replace(hub, pins=other))
