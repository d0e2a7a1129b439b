"""What the manifest says of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.bundle.directory import read_manifest
from service.bundle.manifest import Manifest
from tests.toy import write_toy_bundle


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
