"""The encoders: what they compute, small trainings of them, and the bundle that they make."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from demo_world import training
from demo_world.build import encoders_bundle
from demo_world.encoders import AudioTower, EncoderSizes, TextTower, image_tower, load_encoders
from demo_world.training import EncoderPlan, Recipe, train_encoders
from model_export.encoders.custom import CustomBundle
from model_export.errors import EncoderError
from service.bundle.directory import read_manifest
from service.bundle.manifest import Manifest
from service.encode.text import encode_labels
from service.labels.label import make_label
from service.registry import load_bundle
from service.runtime.providers import Runtime
from service.settings import DEMO_BUNDLE

SIZES = EncoderSizes(image_widths=(8, 16, 24), audio_widths=(8, 16, 24), text_width=32, text_layers=1)
RECIPE = Recipe(clip_steps=4, clip_batch=8, text_steps=4, text_batch=8)
PLAN = EncoderPlan(sizes=SIZES, n_train=24, n_val=8, recipes={"visual": RECIPE, "audio": RECIPE})


def frames(n: int) -> Tensor:
    """Noise as frames."""
    size = SIZES.image_size_px
    return torch.from_numpy(np.random.default_rng(n).integers(0, 256, (n, size, size, 3), np.uint8))


def waveforms(n: int) -> Tensor:
    """Noise as windows of sound."""
    noise = np.random.default_rng(n).normal(0, 0.1, (n, SIZES.window_samples))
    return torch.from_numpy(noise.astype(np.float32))


def tokens(n: int) -> Tensor:
    """Random tokens; the second half of each row is padding."""
    ids = np.random.default_rng(n).integers(1, SIZES.vocabulary_size, (n, SIZES.context_length))
    ids[:, SIZES.context_length // 2 :] = 0
    return torch.from_numpy(ids)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with encoders after a few steps of training, and their bundle. Don't change it."""
    folder = tmp_path_factory.mktemp("demo")
    told: list[str] = []
    n_threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "run_in_processes", map)  # new processes would import torch for long
        train_encoders(folder, 0, told.append, PLAN)
    torch.set_num_threads(n_threads)
    assert sum("zero-shot accuracy" in line for line in told) == 2
    encoders_bundle(folder, 0, told.append)
    return folder


@pytest.fixture(scope="module")
def encoders(work: Path) -> CustomBundle:
    """The encoders as they lie in the folder."""
    return load_encoders(work / "encoders")


@pytest.mark.parametrize(
    ("tower", "inputs"),
    [(image_tower, frames(3)), (AudioTower, waveforms(3)), (TextTower, tokens(3))],
    ids=["image", "audio", "text"],
)
@torch.no_grad()
def test_features_have_unit_length(tower: Callable[[EncoderSizes], nn.Module], inputs: Tensor) -> None:
    """Whatever comes in."""
    torch.testing.assert_close(tower(SIZES).eval()(inputs).norm(dim=1), torch.ones(3))


def test_pixels_are_centred_and_scaled_exactly() -> None:
    """(value - 127.5) / 64 for every value of a byte, as the shipped graph has it."""
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    expected = (values.permute(0, 3, 1, 2).float() - 127.5) / 64
    assert torch.equal(image_tower(SIZES).pixels(values), expected)


@torch.no_grad()
def test_loudness_does_not_move_an_audio_feature() -> None:
    """A waveform at a tenth of the level has the same feature."""
    tower, sound = AudioTower(SIZES).eval(), waveforms(2)
    torch.testing.assert_close(tower(sound), tower(sound * 0.1), atol=1e-3, rtol=0)


@torch.no_grad()
def test_padding_does_not_move_a_text_feature() -> None:
    """Tokens cut to their length give what padded ones give."""
    tower, ids = TextTower(SIZES).eval(), tokens(2)
    torch.testing.assert_close(tower(ids), tower(ids[:, : SIZES.context_length // 2]), atol=1e-5, rtol=0)


@pytest.mark.slow
@torch.no_grad()
def test_the_bundle_computes_what_the_trained_encoders_compute(work: Path, encoders: CustomBundle) -> None:
    """At batch sizes that the graphs were not exported with; names through the one tokenizer file."""
    served = load_bundle(work / "encoders_bundle", Runtime(device="cpu")).encoders
    for n in (1, 5):
        image, sound = encoders.image.module(frames(n)), encoders.audio.module(waveforms(n))
        np.testing.assert_allclose(served.visual(frames=frames(n).numpy()), image, atol=1e-5)
        np.testing.assert_allclose(served.audio(waveform=waveforms(n).numpy()), sound, atol=1e-5)
    texts = encode_labels(served, [make_label("boxwork with a gong")], ["a video of a {}."])
    ids = encoders.image.text.tokenizer.encode("a video of a boxwork with a gong.").ids
    row = torch.tensor([ids + [0] * (SIZES.context_length - len(ids))])
    np.testing.assert_allclose(texts.visual, encoders.image.text.module(row), atol=1e-5)
    np.testing.assert_allclose(texts.audio, encoders.audio.text.module(row), atol=1e-5)


@pytest.mark.slow
def test_the_bundle_has_the_layout_of_the_shipped_one(work: Path) -> None:
    """The same files, settings, templates and tolerances of its encoders; weights and scales differ."""
    shipped, made = (_facts(read_manifest(path)) for path in (DEMO_BUNDLE, work / "encoders_bundle"))
    assert made == shipped


def _facts(manifest: Manifest) -> tuple[object, ...]:
    towers = [tower.model_dump(exclude={"logit_scale"}) for tower in (manifest.visual, manifest.audio)]
    parity = manifest.provenance.parity.items()
    tolerances = {part: check.tolerance for part, check in parity if not part.startswith("head")}
    return towers, tolerances, set(manifest.encoder_files())


@pytest.mark.slow
def test_weights_of_other_sizes_are_refused(work: Path, tmp_path: Path) -> None:
    """Said in one sentence that names the file."""
    for file in (work / "encoders").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sizes = tmp_path / "encoders.json"
    sizes.write_text(sizes.read_text().replace('"dim": 128', '"dim": 64'))
    with pytest.raises(EncoderError, match=r"visual\.safetensors is no tower of the demo world"):
        load_encoders(tmp_path)
