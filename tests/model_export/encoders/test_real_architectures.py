"""ViT-B/32, HTSAT-tiny and RoBERTa as they are, with random weights: exported, compared, served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import normalize

from model_export.encoders.clap_networks import build_clap
from model_export.encoders.image_encoder import ImageChoice, load_image_encoder
from model_export.export.reduced_precision import reduce_precision
from service.bundle.directory import read_manifest
from service.bundle.provenance import GraphCheck, Precision
from service.cli import main
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.conftest import Ahse
from tests.toy import write_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle that the command writes on a machine without a network."""
    out = tmp_path_factory.mktemp("real") / "random"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        words = ["ahse", "export", "clip-clap", "--random-weights", "--precision", "fp32", "--out", str(out)]
        patch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return out


@pytest.fixture(scope="module")
def bundle(directory: Path) -> Bundle:
    """The same, loaded as the service does."""
    return load_bundle(directory, Runtime(device="cpu", n_threads=2))


@pytest.fixture(scope="module")
def clap() -> Any:
    """laion_clap's network with the weights that seed 0 gives."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network, _ = build_clap("HTSAT-tiny")
    return network


def test_it_says_what_it_is(directory: Path) -> None:
    """Random weights are said so, and every graph was checked."""
    manifest = read_manifest(directory)
    assert "RANDOM weights" in manifest.description
    assert (manifest.visual.dim, manifest.audio.dim) == (512, 512)
    assert (manifest.visual.image_size_px, manifest.audio.sample_rate_hz) == (224, 48_000)
    assert manifest.provenance.parity.keys() == {"visual", "audio", "text_visual", "text_audio"}
    assert all(check.difference <= check.tolerance for check in manifest.provenance.parity.values())


@torch.no_grad()
def test_pictures_and_names_are_open_clips(bundle: Bundle) -> None:
    """Its own transform of a picture of the model's size, its own tokenizer, its own encoders."""
    image = load_image_encoder(ImageChoice(), random_seed=0)
    clip: Any = image.text.module.text
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    transform = open_clip.image_transform(
        224, is_train=False, mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD
    )
    expected = normalize(image.module.visual(torch.stack([transform(Image.fromarray(p)) for p in pixels])))  # type: ignore[operator]
    np.testing.assert_allclose(bundle.encoders.visual(frames=pixels), expected.numpy(), atol=1e-5)
    names = ["a photo of a dog.", "a photo of somebody who is playing an accordion in the rain.", "x"]
    ids = open_clip.tokenizer.SimpleTokenizer()(names)
    found = bundle.encoders.text_visual(tokens=bundle.encoders.tokens_visual(names))
    np.testing.assert_allclose(found, clip.encode_text(ids, normalize=True).numpy(), atol=1e-5)


@torch.no_grad()
def test_sound_is_laion_claps(bundle: Bundle, clap: Any) -> None:
    """Its own get_audio_embedding on a waveform that went through its rounding to 16 bits."""
    draw = np.random.default_rng(1)
    waveform = (0.2 * draw.normal(size=(2, 480_000))).clip(-1, 1).astype(np.float32)
    rounded = (waveform * 32767.0).astype(np.int16) / np.float32(32767.0)
    expected = clap.get_audio_embedding([{"waveform": torch.from_numpy(row)} for row in rounded])
    np.testing.assert_allclose(bundle.encoders.audio(waveform=waveform), expected.numpy(), atol=1e-5)


@torch.no_grad()
def test_names_of_sounds_are_laion_claps(bundle: Bundle, clap: Any) -> None:
    """Its own get_text_embedding on rows padded to 77 with their mask; the graph takes them short."""
    names = ["This is a sound of rain.", "This is a sound of somebody who is playing an accordion."]
    short = bundle.encoders.tokens_audio(names)
    padded = np.full((2, 77), 1, np.int64)
    padded[:, : short.shape[1]] = short
    ids = torch.from_numpy(padded)
    expected = clap.get_text_embedding({"input_ids": ids, "attention_mask": (ids != 1).long()})
    assert short.shape[1] < 77
    np.testing.assert_allclose(bundle.encoders.text_audio(tokens=short), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("graph", ["visual", "text_visual", "audio", "text_audio"])
@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_smaller_graphs_point_the_same_way(
    directory: Path, bundle: Bundle, tmp_path: Path, graph: str, precision: Precision
) -> None:
    """Every encoder in every precision is above the floor, which would stop the export."""
    draw = np.random.default_rng(2)
    every: dict[str, Mapping[str, NDArray[Any]]] = {
        "visual": {"frames": draw.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)},
        "audio": {"waveform": draw.normal(0, 0.1, (2, 480_000)).astype(np.float32)},
        "text_visual": {"tokens": bundle.encoders.tokens_visual(["a dog", "a violin in the rain"])},
        "text_audio": {"tokens": bundle.encoders.tokens_audio(["a dog", "a violin in the rain"])},
    }
    path = Path(shutil.copy(directory / f"{graph}.onnx", tmp_path))
    check = reduce_precision(path, precision, GraphCheck(difference=0, tolerance=1), [every[graph]])
    # Some processors round half precision's sound so that in fp32 the cosine is 1; the size tells them apart.
    assert 0.999 <= (check.cosine or 0) <= 1
    assert path.stat().st_size < 0.6 * (directory / f"{graph}.onnx").stat().st_size


def test_a_clip_is_classified(ahse: Ahse, directory: Path, tmp_path: Path) -> None:
    """As the command line's user does; scores of random weights mean nothing, but they sum to one."""
    clip = write_clip(tmp_path / "clip.mp4", "red", "low", seconds=2)
    words = ("classify", clip, "--bundle", directory, "--label", "a", "--label", "b", "--json")
    answers = []
    for _ in range(2):
        code, said, _ = ahse(*words)
        assert code == 0
        answers.append(json.loads(said))
    answer = answers[0]
    assert {one["label"] for one in answer["predictions"]} == {"a", "b"}
    assert sum(one["score"] for one in answer["predictions"]) == pytest.approx(1, abs=1e-5)
    assert answer["tracks"]["visual"]["used"]
    assert answer["tracks"]["audio"]["used"]
    assert answer["unknown"] is None
    assert answers[1]["predictions"] == answer["predictions"]
