"""What the manifest says of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service.bundle.directory import read_manifest
from service.bundle.manifest import KnownNames, Manifest, SimilaritySpec
from tests.toy import KNOWN_NAMES, write_toy_bundle


@pytest.fixture
def manifest(toy_bundle: Path) -> Manifest:
    """Of the toy bundle."""
    return read_manifest(toy_bundle)


def test_bundles_that_differ_in_the_head_alone_have_the_same_encoders(
    manifest: Manifest, tmp_path: Path
) -> None:
    """Another kind of head, another name, other seen classes."""
    other = read_manifest(write_toy_bundle(tmp_path / "other", name="other", head="similarity"))
    assert other.head.kind != manifest.head.kind
    assert other.encoders_digest() == manifest.encoders_digest()


@pytest.mark.parametrize(
    ("tower", "changes"),
    [
        ("visual", {"n_frames": 5}),
        ("audio", {"hop_s": 0.25}),
        ("visual", {"text": {"templates": ("{} it is",)}}),
    ],
)
def test_whatever_changes_a_feature_changes_the_encoders_digest(
    manifest: Manifest, tower: str, changes: dict[str, Any]
) -> None:
    """Frames, windows and templates."""
    old = getattr(manifest, tower)
    text = old.text.model_copy(update=changes.get("text", {}))
    new = old.model_copy(update={**changes, "text": text})
    assert manifest.model_copy(update={tower: new}).encoders_digest() != manifest.encoders_digest()


@pytest.mark.parametrize("file", ["visual.onnx", "audio.onnx", "text_visual.onnx", "tokenizer.json"])
def test_another_file_is_another_encoder(manifest: Manifest, file: str) -> None:
    """Each graph and the tokenizer count."""
    files = {**manifest.files, file: "0" * 64}
    assert manifest.model_copy(update={"files": files}).encoders_digest() != manifest.encoders_digest()


def test_the_head_has_its_own_files(manifest: Manifest) -> None:
    """The encoders' files and the head's together are all that the manifest names."""
    head = {"head_av.onnx", "head_text.onnx", "statistics.safetensors"}
    assert manifest.named_files() - set(manifest.encoder_files()) == head


@pytest.fixture
def document(shared_bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle with one text graph, as JSON has it."""
    return read_manifest(shared_bundle).model_dump(mode="json")


def test_a_text_graph_that_is_shared_is_one_file(document: dict[str, Any], manifest: Manifest) -> None:
    """Named once among the encoders' files; two graphs are not shared."""
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
def test_towers_that_share_a_text_graph_differ_in_its_output_alone(
    document: dict[str, Any], audio_text: dict[str, Any]
) -> None:
    """One run of the graph serves both: it has one input, and an output for each."""
    document["audio"]["text"].update(audio_text)
    with pytest.raises(ValidationError, match="must differ in its output and in nothing else"):
        Manifest.model_validate(document)


def test_known_names_go_with_a_shared_graph(manifest: Manifest) -> None:
    """Else it would not be said whose output it is."""
    document = manifest.model_dump(mode="json") | {"known_names": KNOWN_NAMES.model_dump()}
    with pytest.raises(ValidationError, match="known_names goes with one text graph for both tracks"):
        Manifest.model_validate(document)


@pytest.mark.parametrize("changes", [{"output": ""}, {"threshold": 1.0}, {"threshold": -1.0}])
def test_known_names_that_make_no_sense(changes: dict[str, Any]) -> None:
    """A cosine lies between -1 and 1, and at neither end does a threshold tell anything."""
    with pytest.raises(ValidationError):
        KnownNames.model_validate(KNOWN_NAMES.model_dump() | changes)


def test_a_notice_is_short(document: dict[str, Any]) -> None:
    """It stands in every answer; 500 characters are the most."""
    assert Manifest.model_validate(document | {"notice": "n" * 500}).notice == "n" * 500
    with pytest.raises(ValidationError, match="notice"):
        Manifest.model_validate(document | {"notice": "n" * 501})


def test_a_head_without_statistics_has_no_files(document: dict[str, Any]) -> None:
    """So a bundle may have none."""
    bare = SimilaritySpec(kind="similarity", visual_share=0.5, n_clips=0)
    shared = Manifest.model_validate(document | {"head": bare.model_dump()})
    assert shared.named_files() == set(shared.encoder_files())


def test_what_is_new_in_the_manifest_does_not_rename_encoders(
    manifest: Manifest, document: dict[str, Any]
) -> None:
    """Features that were kept on disk stay valid where nothing but words changed."""
    without = {key: value for key, value in document.items() if key not in ("notice", "known_names")}
    assert Manifest.model_validate(without).encoders_digest() == (
        Manifest.model_validate(document).encoders_digest()
    )
    assert "output" not in manifest.visual.text.model_dump(exclude_defaults=True)
