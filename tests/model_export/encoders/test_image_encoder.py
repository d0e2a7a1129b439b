"""open_clip models: their own features, their own weights, and a clear refusal of what can't be."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch.nn.functional import normalize

from model_export.encoders.image_encoder import _RESIZE, ImageChoice, _preprocessing, load_image_encoder
from model_export.errors import EncoderError
from model_export.export.quiet_libraries import quiet
from tests.model_export.encoders.small_encoders import CLIP, register_small_clip, small_image_encoder


def _original(seed: int = 5) -> Any:
    """open_clip's own small model."""
    register_small_clip()
    torch.manual_seed(seed)
    with quiet():
        return open_clip.create_model(CLIP).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights, with another logit scale than fresh ones have."""
    model = _original()
    model.logit_scale.data.fill_(math.log(50.0))
    path = tmp_path_factory.mktemp("clip") / "small.pt"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


@torch.no_grad()
def test_pictures_are_encoded_as_open_clip_encodes_them(checkpoint: Path) -> None:
    """Its own transform from a picture of the right size on, then encode_image."""
    encoder = load_image_encoder(ImageChoice(CLIP, checkpoint=checkpoint))
    model = _original()
    transform = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    pictures = torch.stack([transform(Image.fromarray(frame.numpy())) for frame in frames])
    theirs = model.encode_image(pictures, normalize=True)
    torch.testing.assert_close(encoder.module(frames), theirs, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("text", ["", "bell", "a photo of a very old church bell", "long " * 100])
def test_texts_in_short_rows_are_encoded_as_open_clip_encodes_full_ones(checkpoint: Path, text: str) -> None:
    """encode_text sees 77 tokens, ours as many as there are."""
    encoder = load_image_encoder(ImageChoice(CLIP, checkpoint=checkpoint))
    full = open_clip.tokenize([text])
    theirs = _original().encode_text(full, normalize=True)
    used = int((full[0] == full[0].max()).int().argmax()) + 1
    for length in {used, (used + 77) // 2, 77}:
        torch.testing.assert_close(encoder.text.module(full[:, :length]), theirs, atol=1e-6, rtol=0)
    assert encoder.text.dynamic_length


def test_the_logit_scale_is_the_checkpoints(checkpoint: Path) -> None:
    """Stored as a logarithm."""
    encoder = load_image_encoder(ImageChoice(CLIP, checkpoint=checkpoint))
    assert encoder.logit_scale == pytest.approx(50.0)
    assert (encoder.dim, encoder.size_px, encoder.resize) == (24, 32, "shorter_side_bicubic_center_crop")
    assert encoder.licence.licence == "unknown: a local file"


def test_random_weights_come_from_the_seed() -> None:
    """And leave torch's own random numbers alone."""
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    one, two, other = small_image_encoder(1), small_image_encoder(1), small_image_encoder(2)
    assert torch.equal(torch.rand(2), wanted)
    weights = [normalize(encoder.module.state_dict()["visual.proj"], dim=0) for encoder in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.licence.licence == "none: random weights"


def test_a_revision_goes_with_weights_of_the_hub(checkpoint: Path) -> None:
    """A file has none, so the option would be in vain."""
    with pytest.raises(EncoderError, match="--image-revision is of weights on the hub"):
        load_image_encoder(ImageChoice(CLIP, checkpoint=checkpoint, revision="main"))


TAG: dict[str, Any] = {
    "mean": (0.5,) * 3,
    "std": (0.25,) * 3,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


@pytest.mark.parametrize(
    "differs",
    [
        {"quick_gelu": True},
        {"mean": (0.4,) * 3},
        {"std": (0.2,) * 3},
        {"interpolation": "bilinear"},
        {"resize_mode": "squash"},
    ],
)
def test_a_file_needs_a_tag_where_tags_differ(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, differs: dict[str, Any]
) -> None:
    """It fits all of them, whatever it was trained as; the message has a few of the tags."""
    tags: dict[str, dict[str, Any]] = {f"tag{i}": TAG for i in range(6)} | {"last": TAG | differs}
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda _model: list(tags))
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda _model, tag: tags[tag])
    said = r"add --image-pretrained TAG.*\(tag0, tag1, tag2, tag3, tag4, \.\.\.\)"
    with pytest.raises(EncoderError, match=said):
        load_image_encoder(ImageChoice(CLIP, checkpoint=checkpoint))
    assert load_image_encoder(ImageChoice(CLIP, "last", checkpoint)).dim == 24
    tags["last"] = TAG | {"quick_gelu": False}
    assert load_image_encoder(ImageChoice(CLIP, checkpoint=checkpoint)).dim == 24


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    """Here those of a CLIP with other widths."""
    weights = _original().state_dict()
    state = {name: value.repeat_interleave(2, 0) for name, value in weights.items() if value.ndim}
    torch.save(state, tmp_path / "wide.pt")
    with pytest.raises(
        EncoderError, match=r"wide\.pt is no open_clip small-clip: 1 weights missing \(logit_scale\)"
    ):
        load_image_encoder(ImageChoice(CLIP, checkpoint=tmp_path / "wide.pt"))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (ImageChoice("ViT-B-23"), r"no model 'ViT-B-23'; near it are .*ViT-B-32"),
        (
            ImageChoice("ViT-B-32", pretrained="opnai"),
            r"lists no weights 'opnai' for ViT-B-32, only openai, ",
        ),
        (ImageChoice("coca_ViT-B-32"), r"CoCa"),
        (ImageChoice("ViT-H-14"), r"image encoder of ViT-H-14 has 2\.53 GB .* has room for 2\.14 GB"),
        (ImageChoice("ViT-L-16-SigLIP2-256"), r"text encoder of ViT-L-16-SigLIP2-256 has 2\.26 GB"),
        (ImageChoice("hf-hub:timm/ViT-B-16-SigLIP"), r"no model that open_clip lists"),
        (ImageChoice("local-dir:/tmp"), r"no model that open_clip lists"),
        (
            ImageChoice(tokenizer=Path("x")),
            r"ViT-B-32 has open_clip's own tokenizer: leave --image-tokenizer out",
        ),
    ],
)
def test_what_can_not_be_exported(choice: ImageChoice, said: str) -> None:
    """Said before anything is downloaded."""
    with pytest.raises(EncoderError, match=said):
        load_image_encoder(choice, random_seed=0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"resize_mode": "longest"},
            "224 x 224, longest, bicubic; the service",
        ),
        ({"interpolation": "nearest"}, "224 x 224, shortest, nearest"),
        ({"size": (224, 336)}, "224 x 336, shortest, bicubic"),
    ],
)
def test_pictures_that_the_service_does_not_prepare(changed: dict[str, Any], said: str) -> None:
    """Said with what it does."""
    wanted = {"size": 224, "resize_mode": "shortest", "interpolation": "bicubic", "mean": [0.0] * 3}
    model = SimpleNamespace(visual=SimpleNamespace(preprocess_cfg=wanted | {"std": [1.0] * 3} | changed))
    with pytest.raises(EncoderError, match=f"ViT-X wants pictures of {said}"):
        _preprocessing(model, "ViT-X")


def test_pictures_of_all_published_weights_can_be_prepared() -> None:
    """If a new open_clip wants them otherwise, this says so."""
    facts = [open_clip.get_pretrained_cfg(*tag) for tag in open_clip.list_pretrained()]
    wanted = {(one.get("resize_mode", "shortest"), one.get("interpolation", "bicubic")) for one in facts}
    assert wanted == set(_RESIZE)


def test_openais_models_get_its_activation_and_normalisation() -> None:
    """The tag says so, not the architecture; SigLIP squashes its pictures."""
    facts = open_clip.get_pretrained_cfg("ViT-B-32", "openai")
    assert facts["quick_gelu"]
    assert open_clip.list_pretrained_tags_by_model("ViT-B-32")[0] == "openai"
