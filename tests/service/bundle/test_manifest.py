"""What the manifest says of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.bundle.directory import read_manifest
from service.bundle.head_specs import SimilaritySpec
from service.bundle.manifest import KnownNames, Manifest
from tests.toy import KNOWN_NAMES, write_toy_bundle


@pytest.fixture
def manifest(toy_bundle: Path) -> Manifest:
    """Of the toy bundle."""
    return read_manifest(toy_bundle)


def test_the_encoders_digest_does_not_depend_on_the_head(manifest: Manifest, tmp_path: Path) -> None:
    """Another kind of head, another name, other seen classes."""
    other = read_manifest(write_toy_bundle(tmp_path / "other", name="other", head="similarity"))
    assert other.head.kind != manifest.head.kind
    assert other.encoders_digest() == manifest.encoders_digest()


@pytest.mark.parametrize(
    ("encoder", "changes"),
    [
        ("visual", {"n_frames": 5}),
        ("audio", {"hop_s": 0.25}),
        ("visual", {"text": {"templates": ("{} it is",)}}),
    ],
)
def test_the_encoders_digest_changes_with_every_setting_of_an_encoder(
    manifest: Manifest, encoder: str, changes: dict[str, Any]
) -> None:
    """Frames, windows and templates all change features."""
    old = getattr(manifest, encoder)
    text = old.text.model_copy(update=changes.get("text", {}))
    new = old.model_copy(update={**changes, "text": text})
    assert manifest.model_copy(update={encoder: new}).encoders_digest() != manifest.encoders_digest()


@pytest.mark.parametrize("file", ["visual.onnx", "audio.onnx", "text_visual.onnx", "tokenizer.json"])
def test_the_encoders_digest_changes_with_every_file_of_an_encoder(manifest: Manifest, file: str) -> None:
    """Each graph and the tokenizer count."""
    files = {**manifest.files, file: "0" * 64}
    assert manifest.model_copy(update={"files": files}).encoders_digest() != manifest.encoders_digest()


def test_files_belong_to_the_encoders_or_to_the_head(manifest: Manifest) -> None:
    """Together these are all files that the manifest names."""
    head = {"head_av.onnx", "head_text.onnx", "statistics.safetensors"}
    assert manifest.named_files() - set(manifest.encoder_files()) == head


@pytest.fixture
def document(shared_bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle with one text graph, as JSON has it."""
    return read_manifest(shared_bundle).model_dump(mode="json")


def test_a_shared_text_graph_is_one_file(document: dict[str, Any], manifest: Manifest) -> None:
    """It is listed once among the files of the encoders."""
    shared = Manifest.model_validate(document)
    assert shared.shares_text
    assert shared.encoder_files() == ["audio.onnx", "text.onnx", "tokenizer.json", "visual.onnx"]
    assert not manifest.shares_text


@pytest.mark.parametrize(
    "audio_text",
    [
        {"tokenizer": "other.json"},
        {"templates": ["the sound of {}"]},
        {"context_length": 10},
        {"output": "visual"},
    ],
)
def test_text_encoders_that_share_a_graph_differ_in_their_output_only(
    document: dict[str, Any], audio_text: dict[str, Any]
) -> None:
    """One run of the graph serves both: it has one input, and an output for each."""
    document["audio"]["text"].update(audio_text)
    with pytest.raises(ValidationError, match="must differ in their output and in nothing else"):
        Manifest.model_validate(document)


def test_known_names_require_a_shared_text_graph(manifest: Manifest) -> None:
    """Otherwise it would be unclear which graph has the output."""
    document = manifest.model_dump(mode="json") | {"known_names": KNOWN_NAMES.model_dump()}
    with pytest.raises(ValidationError, match="known_names requires one text graph for both tracks"):
        Manifest.model_validate(document)


@pytest.mark.parametrize("changes", [{"output": ""}, {"threshold": 1.0}, {"threshold": -1.0}])
def test_invalid_known_names_are_refused(changes: dict[str, Any]) -> None:
    """A cosine lies between -1 and 1, and a threshold at either end would be meaningless."""
    with pytest.raises(ValidationError):
        KnownNames.model_validate(KNOWN_NAMES.model_dump() | changes)


def test_a_notice_has_at_most_500_characters(document: dict[str, Any]) -> None:
    """It is part of every response."""
    assert Manifest.model_validate(document | {"notice": "n" * 500}).notice == "n" * 500
    with pytest.raises(ValidationError, match="notice"):
        Manifest.model_validate(document | {"notice": "n" * 501})


def test_a_head_without_statistics_needs_no_files(document: dict[str, Any]) -> None:
    """A bundle may have the files of the encoders only."""
    bare = SimilaritySpec(kind="similarity", visual_share=0.5, n_clips=0)
    shared = Manifest.model_validate(document | {"head": bare.model_dump()})
    assert shared.named_files() == set(shared.encoder_files())


def test_new_optional_fields_do_not_change_the_encoders_digest(
    manifest: Manifest, document: dict[str, Any]
) -> None:
    """Features cached on disk stay valid."""
    without = {key: value for key, value in document.items() if key not in ("notice", "known_names")}
    assert Manifest.model_validate(without).encoders_digest() == (
        Manifest.model_validate(document).encoders_digest()
    )
    assert "output" not in manifest.visual.text.model_dump(exclude_defaults=True)
