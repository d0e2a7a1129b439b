"""LAION-CLAP without its import: no network, its own numbers, its own checkpoints."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_export.encoders import clap_networks
from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.encoders.clap_networks import build_clap
from model_export.encoders.encoder_modules import LaionAudioTower, LaionTextTower
from model_export.errors import EncoderError
from tests.model_export.encoders.original_laion import _fresh_htsat, audio_embedding, text_embedding
from tests.model_export.encoders.small_encoders import SHALLOW, shallow_clap


@pytest.fixture(scope="module")
def clap() -> tuple[Any, dict[str, Any]]:
    """HTSAT-tiny with random weights."""
    return shallow_clap()


def test_nothing_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on import nor when the network is built; the package's own __init__ is never run."""

    def refuse(*_: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    before = sys.modules.get("laion_clap")
    build_clap("HTSAT-tiny", SHALLOW)
    assert sys.modules.get("laion_clap") is before


def test_sound_is_encoded_as_laion_encodes_it(clap: tuple[Any, dict[str, Any]]) -> None:
    """Its 16-bit rounding, its get_audio_embedding; loud sound is clipped; several clips in a batch."""
    network, facts = clap
    draw = np.random.default_rng(0)
    sounds = [draw.normal(0, level, 480_000).astype(np.float32) for level in (0.001, 0.1, 2.0)]
    theirs = audio_embedding(network, sounds, facts)
    with torch.no_grad():
        found = LaionAudioTower(network)(torch.from_numpy(np.stack(sounds)))
    torch.testing.assert_close(found, theirs, atol=1e-6, rtol=0)


def test_text_is_encoded_as_laion_encodes_it(clap: tuple[Any, dict[str, Any]]) -> None:
    """Padded to 77 there; as short as may be here."""
    network, _ = clap
    tokens = torch.ones(2, 77, dtype=torch.int64)
    tokens[0, :6] = torch.tensor([0, 50, 60, 70, 80, 2])
    tokens[1, :4] = torch.tensor([0, 90, 100, 2])
    theirs = text_embedding(network, tokens, pad_id=1)
    with torch.no_grad():
        for length in (6, 30, 77):
            found = LaionTextTower(network)(tokens[:, :length])
            torch.testing.assert_close(found, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_windows_are_put_together_as_laion_puts_them(batch: int) -> None:
    """For any batch."""
    windows = torch.randn(batch * 4 * 2, 8, 8, 3)
    theirs = _fresh_htsat().window_reverse(windows, 8, 32, 16)
    assert torch.equal(clap_networks._window_reverse(windows, 8, 32, 16), theirs)


@pytest.mark.parametrize("name", ["PANN-14", "HTSAT-huge", "../HTSAT-tiny"])
def test_an_architecture_that_is_not_there(name: str) -> None:
    """The message lists what is."""
    with pytest.raises(EncoderError, match=r"has no audio encoder.*it has HTSAT-base, .*HTSAT-tiny"):
        build_clap(name)


def test_a_checkpoint_of_laions_training(
    clap: tuple[Any, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `module.` and position ids; the larger architecture is told apart."""
    network, _ = clap
    monkeypatch.setattr(
        "model_export.encoders.audio_encoder.build_clap", lambda name: build_clap(name, SHALLOW)
    )
    monkeypatch.setattr("model_export.encoders.audio_encoder._tokenizer", lambda *_: (None, ()))
    monkeypatch.setattr("model_export.encoders.audio_encoder._text", lambda module, *_: module)
    network.logit_scale_a.data.fill_(3.0)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    torch.save({"epoch": 1, "name": "x", "state_dict": state}, tmp_path / "a.pt")
    encoder = load_audio_encoder(AudioChoice(checkpoint=tmp_path / "a.pt"))
    assert encoder.logit_scale == pytest.approx(np.exp(3.0))
    assert (encoder.sample_rate_hz, encoder.window_s, encoder.dim) == (48_000, 10.0, 512)
    wanted = network.audio_projection[0].weight
    assert torch.equal(encoder.module.state_dict()["projection.0.weight"], wanted)
    with pytest.raises(EncoderError, match=r"a\.pt is no laion_clap HTSAT-base: .*missing.*of another shape"):
        load_audio_encoder(AudioChoice(model="HTSAT-base", checkpoint=tmp_path / "a.pt"))


def test_names_say_which_architecture_they_were_trained_with() -> None:
    """LAION's music and speech models are the larger ones."""
    names = ("630k", "630k-audioset", "music_audioset", "music_speech_audioset")
    assert [AudioChoice(name).architecture for name in names] == ["HTSAT-tiny"] * 2 + ["HTSAT-base"] * 2
    assert AudioChoice("630k", model="HTSAT-base").architecture == "HTSAT-base"
