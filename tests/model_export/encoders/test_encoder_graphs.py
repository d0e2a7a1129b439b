"""Small encoders of the real classes through export and service: every precision, and every refusal."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from model_export.encoders import encoder_graphs
from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.encoders.encoder_graphs import ExportOptions, encoder_parts
from model_export.encoders.encoder_types import AudioEncoder, ImageEncoder, describe, model_card
from model_export.encoders.image_encoder import ImageChoice, load_image_encoder
from model_export.errors import ExportError, HubError, ParityError
from model_export.export.bundle_parts import BundleFacts, export_bundle
from model_export.export.head_parts import similarity_head
from model_export.export.quiet_libraries import quiet
from model_export.hub.fetch import sha256_of
from model_export.hub.hub_requests import Hub
from model_export.hub.pins import pins_of
from service.bundle.directory import read_manifest
from service.cli import main
from service.encode.text import encode_labels
from service.labels.label import Label
from service.registry import load_bundle
from service.runtime.providers import Runtime
from tests.conftest import Ahse
from tests.model_export.encoders.small_encoders import (
    CLIP,
    register_small_clip,
    save_small_clap,
    small_image_encoder,
)

Pair = tuple[ImageEncoder, AudioEncoder]
FACTS = BundleFacts("small", "1", "For a test.", (), (), "pytest", None, "random weights", "# card")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints as users have them: open_clip's in a file, CLAP's in a folder of transformers."""
    folder = tmp_path_factory.mktemp("checkpoints")
    register_small_clip()
    with quiet():
        torch.manual_seed(0)
        torch.save(open_clip.create_model(CLIP).state_dict(), folder / "small.pt")
    save_small_clap(folder / "clap")
    return folder


@pytest.fixture(scope="module")
def pair(files: Path) -> Pair:
    """Loaded without the command."""
    image = load_image_encoder(ImageChoice(CLIP, checkpoint=files / "small.pt"))
    return image, load_audio_encoder(AudioChoice(checkpoint=files / "clap"))


def _export(out: Path, pair: Pair, options: ExportOptions) -> Path:
    made = encoder_parts(*pair, options)
    export_bundle(out, made, similarity_head(), FACTS)
    return out


@pytest.fixture(scope="module")
def bundle(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by the command; two graphs as they are, one smaller in each way."""
    out = tmp_path_factory.mktemp("bundles") / "mine"
    words = [
        "--image-model",
        CLIP,
        "--image-checkpoint",
        files / "small.pt",
        "--audio-checkpoint",
        files / "clap",
    ]
    words += ["--precision", "visual=int8", "--precision", "text_audio=fp16", "--n-frames", 3, "--out", out]
    words += ["--precision", "audio=fp32", "--precision", "text_visual=fp32"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["ahse", "export", "clip-clap", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return out


def test_the_service_computes_what_torch_computes(bundle: Path, pair: Pair) -> None:
    """In fp32 nearly exactly, in other precisions in nearly the same direction; batches of other sizes."""
    served = load_bundle(bundle, Runtime(device="cpu")).encoders
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
    served = load_bundle(bundle, Runtime(device="cpu")).encoders
    names = ["bell", "a very long name " * 20]
    found = encode_labels(served, [Label(name) for name in names], ["a photo of a {}.", "{}"]).visual
    with torch.no_grad():
        prompts = [open_clip.tokenize([f"a photo of a {name}.", name]) for name in names]
        means = torch.stack([image.text.module(rows).mean(dim=0) for rows in prompts])
    np.testing.assert_allclose(found, torch.nn.functional.normalize(means, dim=-1), atol=1e-5)


def test_the_manifest_says_all_of_it(bundle: Path) -> None:
    """Sizes, templates, scales, precision with its cosine, licences."""
    manifest = read_manifest(bundle)
    assert (manifest.visual.dim, manifest.visual.n_frames, manifest.visual.image_size_px) == (24, 3, 32)
    assert (manifest.audio.dim, manifest.audio.sample_rate_hz, manifest.audio.window_s) == (20, 16_000, 1.0)
    assert (manifest.audio.hop_s, manifest.audio.padding) == (1.0, "repeat_whole")
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
    assert {one.licence for one in manifest.licences} == {"unknown: a local file"}
    assert manifest.head.kind == "similarity"


def test_the_manifest_says_what_it_is_made_of(bundle: Path, files: Path) -> None:
    """Each file by its hash, and the versions of the code that read it."""
    provenance = read_manifest(bundle).provenance
    hashes = {(one.part, one.file): one.sha256 for one in provenance.sources}
    names = {
        "image encoder": ["small.pt"],
        "audio encoder": ["clap/model.safetensors", "clap/config.json", "clap/preprocessor_config.json"],
        "audio tokenizer": ["clap/tokenizer.json"],
    }
    expected = {(part, Path(name).name): sha256_of(files / name) for part in names for name in names[part]}
    vocabulary = ("image tokenizer", "bpe_simple_vocab_16e6.txt.gz")
    assert hashes == expected | {vocabulary: sha256_of(Path(open_clip.tokenizer.default_bpe()))}
    assert {one.repository for one in provenance.sources} == {None}
    assert {"open-clip-torch", "laion-clap", "transformers", "timm", "torch"} <= provenance.versions.keys()


def test_the_bundle_pins_its_files_for_the_next_export(bundle: Path, files: Path, tmp_path: Path) -> None:
    """The same files, also by other names; no others."""
    hub = Hub(pins=pins_of(bundle))
    copy = Path(shutil.copy(files / "small.pt", tmp_path / "x.pt"))
    again = load_image_encoder(ImageChoice(CLIP, checkpoint=copy), hub=hub)
    assert again.sources[0].file == "x.pt"
    assert load_audio_encoder(AudioChoice(checkpoint=files / "clap"), hub=hub).dim == 20
    with copy.open("ab") as file:
        file.write(b"one byte more")
    with pytest.raises(HubError, match=r"x\.pt has the SHA-256 .* which no source of the bundle"):
        load_image_encoder(ImageChoice(CLIP, checkpoint=copy), hub=hub)


def test_the_manifest_says_how_to_make_it_again_and_nothing_of_the_machine(bundle: Path, files: Path) -> None:
    """Names of files, no paths; weights that are not random have no seed."""
    manifest = read_manifest(bundle)
    assert manifest.name == "mine"
    assert "RANDOM" not in manifest.description
    assert manifest.provenance.seed is None
    assert manifest.provenance.command == (
        "ahse export clip-clap --image-model small-clip --image-checkpoint small.pt "
        "--audio-pretrained 630k-audioset --audio-checkpoint clap --precision visual=int8 "
        "--precision text_audio=fp16 --precision audio=fp32 --precision text_visual=fp32 "
        "--n-frames 3 --out mine"
    )
    assert str(files) not in manifest.model_dump_json() + (bundle / "MODEL_CARD.md").read_text()


def test_it_ranks_a_clip(bundle: Path, ahse: Ahse, clips: dict[str, Path]) -> None:
    """By the command line, with graphs of every precision."""
    words = ("classify", clips["red low"], "--bundle", bundle, "--label", "red", "--label", "blue")
    code, out, error = ahse(*words)
    assert code == 0, error
    assert "red" in out


@pytest.mark.slow
def test_a_graph_that_differs_leaves_nothing(pair: Pair, tmp_path: Path) -> None:
    """The first is enough."""
    with pytest.raises(ParityError, match=r"visual\.onnx differs from torch"):
        _export(tmp_path / "small", pair, ExportOptions(tolerance=-1.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_precision_that_is_too_coarse_leaves_nothing(pair: Pair, tmp_path: Path) -> None:
    """The message says which graph it is."""
    with pytest.raises(
        ExportError, match=r"visual\.onnx in int8 .* Keep it in fp32: --precision visual=fp32"
    ):
        _export(tmp_path / "small", pair, ExportOptions(precision={"visual": "int8"}, cosine_floor=1.1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_preferred_precision_that_is_too_coarse_is_not_taken(pair: Pair, tmp_path: Path) -> None:
    """The graph stays in fp32, and whoever exports is told."""
    lines: list[str] = []
    options = ExportOptions(preferred="int8", cosine_floor=1.1, progress=lines.append)
    _export(tmp_path / "small", pair, options)
    checks = read_manifest(tmp_path / "small").provenance.parity
    assert {check.precision for check in checks.values()} == {"fp32"}
    assert "It is kept in fp32." in lines[0]


@pytest.mark.slow
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
        monkeypatch.setattr(encoder_graphs, "export_graph", stop)

    options = ExportOptions(progress=progress)
    with pytest.raises(type(error)):
        _export(tmp_path / "small", pair, options)
    assert len(lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_is_random(pair: Pair) -> None:
    """And the licences."""
    sound = replace(pair[1], stand_in_tokenizer=True)
    image = small_image_encoder()
    said = describe("open_clip small", "CLAP small", image, sound, random=True)
    assert "RANDOM weights" in said
    assert "stand-in tokenizers (CLAP)" in said
    both = describe("a", "b", replace(image, stand_in_tokenizer=True), sound, random=True)
    assert "stand-in tokenizers (image, CLAP)" in both
    card = model_card(said, image, sound, "ahse export clip-clap --out b")
    assert "| image encoder and its text encoder | none: random weights | random, seed 0 |" in card
    assert "RANDOM" not in describe("a", "b", image, replace(sound, stand_in_tokenizer=False), random=False)
