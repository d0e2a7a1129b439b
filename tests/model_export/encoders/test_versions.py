"""Sound encoders from a hub: the version that was asked for, and every file of it in the sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.errors import EncoderError, HubError
from model_export.hub.hub_requests import Hub
from model_export.hub.pins import Pin, Pins
from tests.model_export.encoders.small_encoders import save_small_clap
from tests.model_export.hub.loopback import LoopbackHub, serving

REPO = "someone/clap"
FILES = {
    "audio encoder": ("model.safetensors", "config.json", "preprocessor_config.json"),
    "audio tokenizer": ("tokenizer.json",),
}


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A hub with a small CLAP in transformers' format."""
    folder = tmp_path_factory.mktemp("clap")
    save_small_clap(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serving(LoopbackHub({REPO: files})) as hub:
        yield hub


@pytest.fixture
def hub(remote: LoopbackHub, tmp_path: Path) -> Hub:
    """That hub, an empty cache, and nothing pinned."""
    return Hub(remote.endpoint, tmp_path / "cache", Pins())


def test_every_file_is_a_source_with_commit_and_hash(remote: LoopbackHub, hub: Hub) -> None:
    """Weights, settings and tokenizer."""
    found = load_audio_encoder(AudioChoice(REPO), hub=hub).sources
    assert [(one.part, one.file) for one in found] == [(part, name) for part in FILES for name in FILES[part]]
    assert {(one.repository, one.revision) for one in found} == {(REPO, remote.commit(REPO))}
    assert all(one.sha256 == hashlib.sha256(remote.files[REPO][one.file]).hexdigest() for one in found)


def test_a_revision_is_taken_in_place_of_the_pinned_one(remote: LoopbackHub, hub: Hub) -> None:
    """For the tokenizer of the same repository too."""
    pinned = replace(hub, pins=Pins((Pin(REPO, "a" * 40),)))
    with pytest.raises(HubError, match=f"no revision {'a' * 40}"):
        load_audio_encoder(AudioChoice(REPO), hub=pinned)
    found = load_audio_encoder(AudioChoice(REPO, revision="main"), hub=pinned).sources
    assert {one.revision for one in found} == {remote.commit(REPO)}


def test_a_revision_goes_with_weights_of_the_hub(tmp_path: Path) -> None:
    """A folder has none, so the option would be in vain."""
    with pytest.raises(EncoderError, match="--audio-revision is of weights on the hub"):
        load_audio_encoder(AudioChoice(checkpoint=tmp_path, revision="main"))
