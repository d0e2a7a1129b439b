"""Encoders of today with random weights: both towers exported and compared with open_clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from model_export.encoders import encoder_graphs
from model_export.encoders.encoder_graphs import ExportOptions, encoder_parts
from model_export.encoders.encoder_modules import CausalTextTower
from model_export.encoders.encoder_types import ImageEncoder
from model_export.encoders.example_inputs import frame_batches
from model_export.encoders.image_encoder import ImageChoice, load_image_encoder
from model_export.export.bundle_parts import BundleFacts, export_bundle
from model_export.export.head_parts import similarity_head
from service.media import Resize
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.model_export.encoders.small_encoders import small_audio_encoder

pytestmark = pytest.mark.slow
FACTS = BundleFacts("today", "1", "For a test.", (), (), "pytest", None, "random weights", "# card")
NAMES = ["a photo of a dog.", "a photo of somebody who is playing an accordion in the rain.", "x"]


class Facts(NamedTuple):
    """What a bundle has to say of a model."""

    dim: int
    size_px: int
    resize: Resize
    context_length: int
    dynamic_length: bool


CROP: Final = "shorter_side_bilinear_center_crop"
MODELS = {
    "MobileCLIP2-S0": Facts(512, 256, CROP, 77, dynamic_length=False),
    "MobileCLIP2-S2": Facts(512, 256, CROP, 77, dynamic_length=False),
    "PE-Core-B-16": Facts(1024, 224, "squash_bilinear", 32, dynamic_length=True),
    "ViT-B-16-SigLIP2": Facts(768, 224, "squash_bicubic", 64, dynamic_length=False),
    "ViT-L-14": Facts(768, 224, "shorter_side_bicubic_center_crop", 77, dynamic_length=True),
}


def _loaded(name: str) -> ImageEncoder:
    """Random weights, and statistics of norms that are not the identity, as fresh ones are."""
    image, draw = load_image_encoder(ImageChoice(name), random_seed=0), torch.Generator().manual_seed(1)
    for norm in image.module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean = 0.1 * torch.randn(norm.num_features, generator=draw)
            norm.running_var = 0.5 + torch.rand(norm.num_features, generator=draw)
    return image


@torch.no_grad()
def _pictures(image: ImageEncoder, frames: np.ndarray) -> Tensor:
    """By open_clip's transform, of pictures of the model's size, and its tower."""
    visual: Any = image.module.visual
    transform = image_transform_v2(PreprocessCfg(**visual.preprocess_cfg), is_train=False)
    return normalize(visual(torch.stack([transform(Image.fromarray(frame)) for frame in frames])), dim=-1)


@torch.no_grad()
def _texts(image: ImageEncoder, tokens: np.ndarray) -> Tensor:
    """By open_clip's tower, which wants full rows."""
    text, rows = image.text, torch.full((len(tokens), image.text.context_length), image.text.pad_id)
    rows[:, : tokens.shape[1]] = torch.from_numpy(tokens)
    original: Any = text.module.text if isinstance(text.module, CausalTextTower) else text.module.clip
    return normalize(getattr(original, "encode_text", original)(rows), dim=-1)


def _frames(size_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, size_px, size_px, 3), dtype=np.uint8)


def _tokens(image: ImageEncoder) -> np.ndarray:
    """As long as the longest name where that is enough."""
    text = image.text
    text.tokenizer.enable_padding(
        length=None if text.dynamic_length else text.context_length, pad_id=text.pad_id
    )
    return np.array([encoding.ids for encoding in text.tokenizer.encode_batch(NAMES)])


@pytest.mark.parametrize("name", [name for name in MODELS if name != "MobileCLIP2-S0"])
def test_both_towers_compute_what_open_clip_computes(name: str, tmp_path: Path) -> None:
    """The export compares each graph with its module, and this the modules with open_clip."""
    image, said = _loaded(name), MODELS[name]
    assert (image.dim, image.size_px, image.resize) == said[:3]
    assert (image.text.context_length, image.text.dynamic_length) == said[3:]
    frames, tokens = _frames(image.size_px), _tokens(image)
    with torch.no_grad():
        torch.testing.assert_close(
            image.module(torch.from_numpy(frames)), _pictures(image, frames), atol=1e-6, rtol=0
        )
        torch.testing.assert_close(
            image.text.module(torch.from_numpy(tokens)), _texts(image, tokens), atol=1e-6, rtol=0
        )
    assert image.stand_in_tokenizer == (name == "ViT-B-16-SigLIP2")
    if not image.stand_in_tokenizer:
        theirs = open_clip.get_tokenizer(name)(NAMES).numpy()[:, : tokens.shape[1]]
        np.testing.assert_array_equal(tokens, theirs)
    towers = {
        "visual": encoder_graphs._Tower(
            image.module, "frames", frame_batches(image)[:1]
        ),  # noise; clips take long
        "text_visual": encoder_graphs._text_tower(image.text, ("features",)),
    }
    for graph, tower in towers.items():
        check = encoder_graphs._write(graph, tower, tmp_path, ExportOptions())
        assert check.difference <= check.tolerance


def test_a_tower_of_convolutions_is_stored_in_8_bits_and_is_served(tmp_path: Path) -> None:
    """Its kernels take a quarter of the file and are computed with in fp32."""
    name = "MobileCLIP2-S0"
    image, sound, lines = _loaded(name), small_audio_encoder(tmp_path), list[str]()
    made = encoder_parts(image, sound, ExportOptions(preferred="int8", progress=lines.append))
    export_bundle(tmp_path / "b", made, similarity_head(), FACTS)
    bundle = load_bundle(tmp_path / "b", Runtime(device="cpu", n_threads=2))
    visual, checks = bundle.manifest.visual, bundle.manifest.provenance.parity
    assert (visual.dim, visual.image_size_px, visual.resize) == MODELS[name][:3]
    assert (visual.text.context_length, visual.text.dynamic_length) == MODELS[name][3:]
    assert [checks[graph].precision for graph in ("visual", "text_visual")] == ["int8", "int8"]
    assert lines[0].startswith("visual.onnx: int8")
    frames, tokens = _frames(visual.image_size_px), bundle.encoders.tokens_visual(NAMES)
    np.testing.assert_array_equal(tokens, open_clip.get_tokenizer(name)(NAMES))
    for found, wanted in (
        (bundle.encoders.visual(frames=frames), _pictures(image, frames)),
        (bundle.encoders.text_visual(tokens=tokens), _texts(image, tokens)),
    ):
        assert np.sum(found * wanted.numpy(), axis=1).min() > 0.999
