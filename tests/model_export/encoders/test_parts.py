"""Small encoders of the real classes through export and service: every precision, and every refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.encoders import parts
from model_export.encoders.card import describe, model_card
from model_export.encoders.loaded import ImageEncoder, SoundEncoder
from model_export.encoders.parts import ExportOptions, encoder_parts
from model_export.export.bundle import BundleFacts, export_bundle
from model_export.export.graph import ExportError, ParityError
from model_export.export.heads import similarity_head
from service.bundle.bundle import load_bundle
from service.bundle.directory import read_manifest
from service.bundle.graph import Runtime
from service.encode.text import encode_labels
from service.labels.label import Label
from tests.model_export.encoders.small import small_image_encoder, small_sound_encoder

pytestmark = pytest.mark.slow
Pair = tuple[ImageEncoder, SoundEncoder]
FACTS = BundleFacts("small", "1", "For a test.", (), (), "pytest", None, "random weights", "# card")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Random weights."""
    return small_image_encoder(), small_sound_encoder(tmp_path_factory.mktemp("clap"))


def _export(out: Path, pair: Pair, options: ExportOptions) -> Path:
    made = encoder_parts(*pair, options)
    export_bundle(out, made, similarity_head(made.visual, made.audio), FACTS)
    return out


@pytest.fixture(scope="module")
def bundle(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two graphs as they are, one smaller in each way."""
    options = ExportOptions(n_frames=3, precision={"visual": "int8", "text_audio": "fp16"})
    return _export(tmp_path_factory.mktemp("bundles") / "small", pair, options)


def test_the_service_computes_what_torch_computes(bundle: Path, pair: Pair) -> None:
    """In fp32 nearly exactly, in other precisions in nearly the same direction; batches of other sizes."""
    served = load_bundle(bundle, Runtime(device="cpu"))
    frames = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    waveform = 0.1 * torch.randn(3, 16_000)
    image, sound = pair
    with torch.no_grad():
        visual, audio = image.module(frames).numpy(), sound.module(waveform).numpy()
    np.testing.assert_allclose(served.audio(waveform=waveform.numpy()), audio, atol=1e-5)
    cosine = np.sum(served.visual(frames=frames.numpy()) * visual, axis=1)
    assert cosine.min() > 0.999


def test_names_are_tokenised_and_encoded_as_open_clip_does(bundle: Path, pair: Pair) -> None:
    """Each template, averaged, at unit length; long names are cut."""
    image, _ = pair
    served = load_bundle(bundle, Runtime(device="cpu"))
    names = ["bell", "a very long name " * 20]
    found = encode_labels(served, [Label(name) for name in names], ["a photo of a {}.", "{}"]).visual
    import open_clip

    with torch.no_grad():
        prompts = [open_clip.tokenize([f"a photo of a {name}.", name]) for name in names]
        means = torch.stack([image.text.module(rows).mean(dim=0) for rows in prompts])
    np.testing.assert_allclose(found, torch.nn.functional.normalize(means, dim=-1), atol=1e-5)


def test_the_manifest_says_all_of_it(bundle: Path) -> None:
    """Sizes, templates, scales, precision with its cosine, licences."""
    manifest = read_manifest(bundle)
    assert (manifest.visual.dim, manifest.visual.n_frames, manifest.visual.image_size_px) == (24, 3, 32)
    assert (manifest.audio.dim, manifest.audio.sample_rate_hz, manifest.audio.window_s) == (20, 16_000, 1.0)
    assert (manifest.audio.hop_s, manifest.audio.padding) == (1.0, "repeat")
    assert manifest.visual.text.dynamic_length
    assert manifest.audio.text.pad_id == 1
    assert all(
        "{}" in template for template in manifest.visual.text.templates + manifest.audio.text.templates
    )
    checks = manifest.provenance.parity
    assert {name: check.precision for name, check in checks.items()} == {
        "visual": "int8",
        "text_visual": "fp32",
        "audio": "fp32",
        "text_audio": "fp16",
    }
    assert all(check.difference <= check.tolerance for check in checks.values())
    assert checks["audio"].cosine is None
    assert 0.999 <= (checks["visual"].cosine or 0) <= 1
    assert checks["visual"].cosine_floor == 0.999
    assert {one.licence for one in manifest.licences} == {"none: random weights", "unknown: a local file"}
    assert manifest.head.kind == "similarity"


def test_a_graph_that_differs_leaves_nothing(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is enough."""
    monkeypatch.setattr(parts, "TOLERANCE", -1.0)
    with pytest.raises(ParityError, match=r"visual\.onnx differs from torch"):
        _export(tmp_path / "small", pair, ExportOptions())
    assert list(tmp_path.iterdir()) == []


def test_a_precision_that_is_too_coarse_leaves_nothing(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which graph to keep."""
    monkeypatch.setattr("model_export.export.precision.COSINE_FLOOR", 1.1)
    with pytest.raises(ExportError, match=r"Keep it in fp32: --precision visual=fp32"):
        _export(tmp_path / "small", pair, ExportOptions(precision={"visual": "int8"}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_export_leaves_nothing(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """After the first graph, while the next is written."""

    def stop(*_: object, **__: object) -> None:
        raise error

    lines: list[str] = []

    def progress(line: str) -> None:
        lines.append(line)
        monkeypatch.setattr(parts, "export_graph", stop)

    options = ExportOptions(progress=progress)
    with pytest.raises(type(error)):
        _export(tmp_path / "small", pair, options)
    assert len(lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_is_random(pair: Pair) -> None:
    """And the licences and precisions."""
    image, sound = pair
    sound = replace(sound, stand_in_tokenizer=True)
    said = describe("open_clip small", "CLAP small", sound, random=True)
    assert "RANDOM weights" in said
    assert "stand-in" in said
    card = model_card(said, image, sound, {"visual": "int8"}, "ahse export clip-clap --out b")
    assert "visual int8, text_visual fp32" in card
    assert "| image encoder and its text encoder | none: random weights | random, seed 0 |" in card
    assert "RANDOM" not in describe("a", "b", replace(sound, stand_in_tokenizer=False), random=False)
