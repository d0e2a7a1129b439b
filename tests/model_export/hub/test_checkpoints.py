"""Names become the right files of the right repositories; local paths stay what they are."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
import torch

from model_export.errors import HubError
from model_export.hub.checkpoints import (
    LAION_CLAP,
    LAION_CLAP_FILES,
    clap_checkpoint,
    open_clip_checkpoint,
    tokenizer_file,
)
from model_export.hub.hub_requests import Hub
from model_export.hub.pins import Pins
from tests.model_export.hub.conftest import random_weights
from tests.model_export.hub.loopback import LoopbackHub

OPENAI = "timm/vit_base_patch32_clip_224.openai"
CLAP = "laion/clap-htsat-unfused"

SETTINGS = {"config.json": b"{}", "preprocessor_config.json": b"{}"}


def _torch_file(seed: int) -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"w": torch.rand(50, generator=torch.Generator().manual_seed(seed))}}, buffer)
    return buffer.getvalue()


def test_the_default_image_weights(remote: LoopbackHub, hub: Hub) -> None:
    """OpenAI's, as open_clip has them on the hub, in safetensors; the source is one exact version."""
    remote.files[OPENAI] = {
        "open_clip_model.safetensors": random_weights(2),
        "open_clip_pytorch_model.bin": b"",
    }
    found = open_clip_checkpoint("ViT-B-32", "openai", hub)
    assert found.path.read_bytes() == random_weights(2)
    assert found.files[0].sha256 == hashlib.sha256(random_weights(2)).hexdigest()
    commit = remote.commit(OPENAI)
    assert found.source == f"https://huggingface.co/{OPENAI}/blob/{commit}/open_clip_model.safetensors"
    assert found.licence == "MIT (https://github.com/openai/CLIP/blob/main/LICENSE)"


def test_image_weights_that_exist_in_the_older_format_only(remote: LoopbackHub, hub: Hub) -> None:
    """Some repositories were never converted."""
    repo = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    remote.files[repo] = {"open_clip_pytorch_model.bin": _torch_file(0)}
    remote.cards[repo] = {"license": "mit"}
    found = open_clip_checkpoint("ViT-B-32", "laion2b_s34b_b79k", hub)
    state = torch.load(found.path, weights_only=True)["state_dict"]["w"]
    assert torch.equal(state, torch.rand(50, generator=torch.Generator().manual_seed(0)))
    assert found.licence == f"mit (https://huggingface.co/{repo})"


def test_image_weights_under_a_name_of_their_own(remote: LoopbackHub, hub: Hub) -> None:
    """open_clip names the file for some."""
    remote.files["jienengchen/ViTamin-S"] = {"pytorch_model.bin": _torch_file(1)}
    assert open_clip_checkpoint("ViTamin-S", "datacomp1b", hub).path.name == "pytorch_model.bin"


def test_every_published_tag_is_on_the_hub() -> None:
    """Why plain addresses need no code: if a new open_clip has one alone, this says so."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained

    assert [tag for tag in list_pretrained() if not get_pretrained_cfg(*tag).get("hf_hub")] == []


def test_an_unknown_tag_is_answered_with_the_known_ones(hub: Hub) -> None:
    """It may also have been a path."""
    with pytest.raises(HubError, match=r"open-ai is no file, .* ViT-B-32; it knows: openai, laion400m_e31"):
        open_clip_checkpoint("ViT-B-32", "open-ai", hub)
    with pytest.raises(HubError, match=r"for ViT-B-33; it knows: none"):
        open_clip_checkpoint("ViT-B-33", "openai", hub)


def test_weights_on_no_hub_are_fetched_by_hand(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the address and the option."""
    facts = {"url": "https://example.org/w.pt", "hf_hub": ""}
    monkeypatch.setattr("open_clip.pretrained.get_pretrained_cfg", lambda _model, _tag: facts)
    with pytest.raises(HubError, match=r"download https://example\.org/w\.pt and give --image-checkpoint"):
        open_clip_checkpoint("ViT-B-32", "odd", hub)


@pytest.mark.parametrize("name", LAION_CLAP_FILES)
def test_laion_clap_by_name(name: str, remote: LoopbackHub, hub: Hub) -> None:
    """Each name is one file of LAION's repository."""
    remote.files[LAION_CLAP] = {file: _torch_file(i) for i, file in enumerate(LAION_CLAP_FILES.values())}
    found = clap_checkpoint(name, hub)
    assert found.path.read_bytes() == remote.files[LAION_CLAP][LAION_CLAP_FILES[name]]
    assert found.licence.startswith("CC0-1.0 (https://")


def test_clap_in_transformers_format_is_a_folder(remote: LoopbackHub, hub: Hub) -> None:
    """Configuration and weights of the same commit, and the tokenizer beside them when it is asked for."""
    remote.files[CLAP] = {
        **SETTINGS,
        "pytorch_model.bin": _torch_file(3),
        "tokenizer.json": b'{"a": 1}',
    }
    found = clap_checkpoint(CLAP, hub)
    assert (found.path / "config.json").read_bytes() == b"{}"
    assert (found.path / "pytorch_model.bin").read_bytes() == _torch_file(3)
    assert found.files[0].sha256 == hashlib.sha256(_torch_file(3)).hexdigest()
    assert found.source == f"https://huggingface.co/{CLAP}/blob/{remote.commit(CLAP)}/pytorch_model.bin"
    assert found.licence == f"Apache-2.0 (https://huggingface.co/{CLAP})"
    assert tokenizer_file(CLAP, hub=hub).path == found.path / "tokenizer.json"


def test_a_second_export_works_offline(
    remote: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of the folder comes from the cache."""
    remote.files[CLAP] = {**SETTINGS, "model.safetensors": random_weights(4)}
    online = clap_checkpoint(CLAP, hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert clap_checkpoint(CLAP, hub) == online


def test_without_a_network_the_advice_names_all_that_a_folder_needs(tmp_path: Path) -> None:
    """One trip to the connected machine, not one for each file."""
    with pytest.raises(HubError) as caught:
        clap_checkpoint(CLAP, Hub("http://127.0.0.1:1", tmp_path / "cache", Pins()))
    names = "config.json preprocessor_config.json model.safetensors pytorch_model.bin tokenizer.json"
    assert "Give --audio-checkpoint FOLDER; or run `" in str(caught.value)
    assert f" hf download {CLAP} {names} --cache-dir copied`" in str(caught.value)


def test_an_offline_licence_says_where_to_look(
    remote: LoopbackHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model card is not in the cache."""
    remote.files["someone/clap"] = {**SETTINGS, "model.safetensors": random_weights(4)}
    remote.cards["someone/clap"] = {"license": "other", "license_name": "house-rules"}
    assert clap_checkpoint("someone/clap", hub).licence == "house-rules (https://huggingface.co/someone/clap)"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert clap_checkpoint("someone/clap", hub).licence == "unknown: see https://huggingface.co/someone/clap"


def test_without_a_card_the_licence_is_unknown(remote: LoopbackHub, hub: Hub) -> None:
    """No metadata is no licence."""
    remote.files["someone/clap"] = {**SETTINGS, "model.safetensors": random_weights(4)}
    remote.cards["someone/clap"] = {}
    assert clap_checkpoint("someone/clap", hub).licence.startswith("unknown: see")


def test_local_files_and_folders_are_returned_as_they_are(tmp_path: Path) -> None:
    """Without asking anyone."""
    nobody = Hub("http://127.0.0.1:1", tmp_path / "cache")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(random_weights(5))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    digest = hashlib.sha256(random_weights(5)).hexdigest()
    for found, path in [
        (open_clip_checkpoint("ViT-B-32", str(weights), nobody), weights),
        (clap_checkpoint(str(weights), nobody), weights),
        (clap_checkpoint(str(tmp_path), nobody), tmp_path),
    ]:
        assert (found.path, found.files[0].sha256) == (path, digest)
        assert (found.source, found.licence) == ("local file model.safetensors", "unknown: a local file")
    assert tokenizer_file(str(tmp_path / "tokenizer.json"), hub=nobody).path == tmp_path / "tokenizer.json"
    assert tokenizer_file(str(tmp_path), hub=nobody).path == tmp_path / "tokenizer.json"


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """What is missing is named."""
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(HubError, match=r"needs config\.json and model\.safetensors or pytorch_model\.bin"):
        clap_checkpoint(str(tmp_path))
    with pytest.raises(HubError, match=r"has no tokenizer\.json"):
        tokenizer_file(str(tmp_path))


@pytest.mark.parametrize("name", ["weights/clap.pt", "./clap", "/nowhere/clap", "630k-fusion", "a/b/c"])
def test_what_is_neither_a_path_nor_a_name_is_refused(name: str, remote: LoopbackHub, hub: Hub) -> None:
    """A mistyped path is not looked for on the hub."""
    with pytest.raises(HubError, match=r"no file or folder, .* none of 630k-audioset, "):
        clap_checkpoint(name, hub)
    assert remote.asked == []


def test_a_mistyped_tokenizer_path_is_refused(remote: LoopbackHub, hub: Hub) -> None:
    """It ends like a file."""
    with pytest.raises(HubError, match=r"no file roberta/tokenizer\.json"):
        tokenizer_file("roberta/tokenizer.json", hub=hub)
    assert remote.asked == []


def test_a_tokenizer_that_can_not_be_had_names_its_option(tmp_path: Path) -> None:
    """The caller's, where it has another one."""
    nobody = Hub("http://127.0.0.1:1", tmp_path / "cache")
    with pytest.raises(HubError, match=r"tokenizer\.json of roberta-base .* Give --clap-tokenizer FILE"):
        tokenizer_file("roberta-base", hub=nobody)
    with pytest.raises(HubError, match="Give --x FILE"):
        tokenizer_file("roberta-base", "--x FILE", nobody)
