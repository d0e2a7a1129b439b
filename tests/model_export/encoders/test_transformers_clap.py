"""Weights in transformers' format give what transformers' own model and feature reader give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ClapFeatureExtractor

from model_export.encoders import audio_encoder
from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.errors import EncoderError
from model_export.hub.checkpoints import Checkpoint
from model_export.hub.fetch import ModelFile
from model_export.hub.hub_requests import Hub
from service.encode.clip_features import audio_windows
from tests.model_export.encoders.small_encoders import RATE_HZ, save_small_clap


@torch.no_grad()
def test_sound_features_are_transformers_own(tmp_path: Path) -> None:
    """Its feature reader in numpy, its model, its projection; noise, a tone, and half a second repeated."""
    model: Any = save_small_clap(tmp_path)
    encoder = load_audio_encoder(AudioChoice(checkpoint=tmp_path))
    draw = np.random.default_rng(0)
    tone = np.sin(np.arange(RATE_HZ) * 0.2)
    sounds = np.stack([draw.normal(0, 0.1, RATE_HZ), tone, np.tile(tone[: RATE_HZ // 2], 2)]).astype(
        np.float32
    )
    reader = ClapFeatureExtractor(**json.loads((tmp_path / "preprocessor_config.json").read_text()))
    read = reader(list(sounds), sampling_rate=RATE_HZ, return_tensors="pt")
    theirs = model.get_audio_features(**read).pooler_output
    found = encoder.module(torch.from_numpy(sounds))
    np.testing.assert_allclose(found, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-4)
    assert encoder.window_s == 1.0
    assert encoder.sample_rate_hz == RATE_HZ
    assert encoder.dim == 20


@torch.no_grad()
def test_text_features_are_transformers_own_at_any_length(tmp_path: Path) -> None:
    """The mask is found by the padding's id."""
    model: Any = save_small_clap(tmp_path)
    encoder = load_audio_encoder(AudioChoice(checkpoint=tmp_path))
    tokens = torch.tensor([[0, 9, 8, 7, 2, 1, 1], [0, 5, 2, 1, 1, 1, 1]])
    for length in (5, 7):
        mask = (tokens[:, :length] != 1).long()
        theirs = model.get_text_features(input_ids=tokens[:, :length], attention_mask=mask).pooler_output
        found = encoder.text.module(tokens[:, :length])
        np.testing.assert_allclose(found, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-6)


def test_the_logit_scale_is_the_checkpoints(tmp_path: Path) -> None:
    """Stored as a logarithm."""
    save_small_clap(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["logit_scale_a"] = torch.tensor(3.0)
    save_file(state, tmp_path / "model.safetensors")
    assert load_audio_encoder(AudioChoice(checkpoint=tmp_path)).logit_scale == pytest.approx(np.exp(3.0))


def test_weights_are_read_from_the_verified_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins may prefer pytorch_model.bin; a model.safetensors beside it in the cache is not looked at."""
    save_small_clap(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["logit_scale_a"] = torch.tensor(3.0)
    torch.save(state, tmp_path / "pytorch_model.bin")
    verified = ModelFile(tmp_path / "pytorch_model.bin", "0" * 64)
    found = Checkpoint(tmp_path, (verified,), "a hub", "none")
    monkeypatch.setattr(audio_encoder, "clap_checkpoint", lambda _name, _hub: found)
    assert load_audio_encoder(AudioChoice(checkpoint=tmp_path)).logit_scale == pytest.approx(np.exp(3.0))


def test_a_model_with_fusion_is_refused(tmp_path: Path) -> None:
    """It needs four spectrograms of a long clip."""
    save_small_clap(tmp_path)
    _edit(tmp_path / "config.json", audio_config={"enable_fusion": True})
    with pytest.raises(EncoderError, match="choose an unfused CLAP"):
        load_audio_encoder(AudioChoice(checkpoint=tmp_path))


@torch.no_grad()
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad", None])
@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.6, 1.0])
def test_short_sound_is_filled_as_transformers_fills_it(
    padding: str | None, seconds: float, tmp_path: Path
) -> None:
    """By the checkpoint's own setting, or by transformers' default where it has none."""
    model: Any = save_small_clap(tmp_path)
    if padding is not None:
        _edit(tmp_path / "preprocessor_config.json", padding=padding)
    encoder = load_audio_encoder(AudioChoice(checkpoint=tmp_path))
    sound = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE_HZ)).astype(np.float32)
    reader = ClapFeatureExtractor(**json.loads((tmp_path / "preprocessor_config.json").read_text()))
    read = reader(sound, sampling_rate=RATE_HZ, return_tensors="pt")
    theirs = torch.nn.functional.normalize(model.get_audio_features(**read).pooler_output, dim=-1)
    window = round(encoder.window_s * encoder.sample_rate_hz)
    filled = audio_windows(sound, window=window, hop=window, padding=encoder.padding)
    np.testing.assert_allclose(encoder.module(torch.from_numpy(np.stack(filled))), theirs, atol=1e-4)


@pytest.mark.parametrize("truncation", ["fusion", "middle", None])
def test_another_truncation_is_refused(truncation: str | None, tmp_path: Path) -> None:
    """Fusion is transformers' default: also where a checkpoint says nothing. The message says what to do."""
    save_small_clap(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    settings = json.loads(path.read_text())
    del settings["truncation"]
    path.write_text(json.dumps(settings | ({} if truncation is None else {"truncation": truncation})))
    said = rf"truncation '{truncation or 'fusion'}'.*choose an unfused CLAP.*\"truncation\": \"rand_trunc\""
    with pytest.raises(EncoderError, match=said):
        load_audio_encoder(AudioChoice(checkpoint=tmp_path))


@pytest.mark.parametrize("padding", ["reflect", True, ["pad"]])
def test_another_padding_is_refused(padding: object, tmp_path: Path) -> None:
    """Transformers takes any word for zeros, without a warning."""
    save_small_clap(tmp_path)
    _edit(tmp_path / "preprocessor_config.json", padding=padding)
    with pytest.raises(EncoderError, match=r"padding .* is none of repeatpad, repeat, pad\. Set the one"):
        load_audio_encoder(AudioChoice(checkpoint=tmp_path))


@pytest.mark.parametrize(
    "weights", [{"checkpoint": Path(__file__).parent}, {"pretrained": "laion/clap-htsat-unfused"}]
)
def test_an_architecture_of_laions_is_refused_beside_it(weights: dict[str, Any]) -> None:
    """It would be ignored, and yet stand in the bundle's command; nothing is downloaded first."""
    with pytest.raises(EncoderError, match="leave --audio-model out"):
        load_audio_encoder(AudioChoice(model="HTSAT-base", **weights), hub=Hub("http://127.0.0.1:1"))


def test_another_model_of_transformers_is_refused(tmp_path: Path) -> None:
    """By its own word."""
    save_small_clap(tmp_path)
    _edit(tmp_path / "config.json", model_type="wav2vec2")
    with pytest.raises(EncoderError, match="is a 'wav2vec2' of transformers, not a 'clap'"):
        load_audio_encoder(AudioChoice(checkpoint=tmp_path))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    """Before anything is exported."""
    save_small_clap(tmp_path, patch_embeds_hidden_size=16, window_size=2)
    _edit(tmp_path / "config.json", projection_dim=8)
    with pytest.raises(EncoderError, match=r"model\.safetensors is no ClapModel.*of another shape"):
        load_audio_encoder(AudioChoice(checkpoint=tmp_path))


@pytest.mark.parametrize("missing", ["preprocessor_config.json", "config.json", "model.safetensors"])
def test_a_folder_that_is_not_whole(tmp_path: Path, missing: str) -> None:
    """The message names the file."""
    save_small_clap(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(Exception, match=missing.replace(".", r"\.")):
        load_audio_encoder(AudioChoice(checkpoint=tmp_path))


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
