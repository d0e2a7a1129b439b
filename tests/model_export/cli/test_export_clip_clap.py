"""`ahse export clip-clap`: what is refused; the tests of encoders/ go the whole way."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from model_export.cli import export_clip_clap, shared_options
from model_export.cli.export_clip_clap import precisions
from model_export.encoders.audio_encoder import AudioChoice
from model_export.encoders.encoder_graphs import ExportOptions
from model_export.errors import EncoderError
from model_export.export import graph_export
from model_export.export.bundle_parts import BundleFacts
from service.bundle import manifest
from tests.conftest import Ahse


def test_precisions_for_all_graphs_and_for_one() -> None:
    """One for all, one for a graph, in any order; what is not said is not demanded."""
    assert precisions([]) == {}
    assert precisions(["audio=fp32"]) == {"audio": "fp32"}
    mixed = {"visual": "int8", "text_visual": "int8", "audio": "fp32", "text_audio": "int8"}
    assert precisions(["int8", "audio=fp32"]) == precisions(["audio=fp32", "int8"]) == mixed


@pytest.mark.parametrize(
    "given", [["int4"], ["video=int8"], ["audio="], ["int8", "fp16"], ["audio=int8", "audio=fp16"]]
)
def test_unknown_or_repeated_precisions_are_refused(given: list[str]) -> None:
    """The message lists graphs and precisions."""
    with pytest.raises(EncoderError, match=r"give fp32, fp16, int8.*visual, text_visual, audio, text_audio"):
        precisions(given)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--image-model", "ViT-B-23"], "no model 'ViT-B-23'"),
        (["--precision", "int4"], "--precision int4"),
        (["--device", "tpu"], "--device tpu: give cpu or cuda"),
        (["--image-checkpoint", "/nowhere/a.pt"], "there is no /nowhere/a.pt"),
        (["--clap-tokenizer", "/nowhere/t.json"], "there is no /nowhere/t.json"),
        (["--name", "a name"], "can't be a bundle's name"),
        (["--pins", "/nowhere"], "there is no /nowhere"),
        (["--image-revision", "main"], "--random-weights have no version"),
        (["--audio-revision", "main"], "--random-weights have no version"),
        (["--image-checkpoint", __file__], "--random-weights are in no file"),
        (["--audio-checkpoint", __file__], "--random-weights are in no file"),
        (["--audio-pretrained", __file__], "; a file is given with --audio-checkpoint"),
        (["--audio-pretrained", "/nowhere/a.pt"], "; a file is given with --audio-checkpoint"),
        (["--image-pretrained", __file__], "; a file is given with --image-checkpoint"),
    ],
)
def test_mistakes_end_in_one_line(ahse: Ahse, tmp_path: Path, words: list[str], said: str) -> None:
    """Exit code 2, and nothing is written."""
    code, _, error = ahse("export", "clip-clap", "--random-weights", "--out", tmp_path / "b", *words)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_a_folder_that_is_called_like_a_repository_is_given_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name would mean other weights elsewhere; LAION's names are never paths."""
    monkeypatch.chdir(tmp_path)
    for name in ("laion/clap", "630k"):
        Path(name).mkdir(parents=True)
    assert AudioChoice("630k").pretrained == "630k"
    with pytest.raises(EncoderError, match="a file is given with --audio-checkpoint"):
        AudioChoice("laion/clap")


def test_defaults_that_are_known_without_torch_are_those_of_the_export() -> None:
    """The command line repeats them, since help should not wait for torch."""
    assert export_clip_clap._OPSET == graph_export.OPSET
    assert ExportOptions().n_frames == export_clip_clap._N_FRAMES
    (name,) = get_args(manifest.Name)[1:]
    assert name.pattern == f"^{shared_options._BUNDLE_NAME.pattern}$"


def test_a_command_has_what_is_not_the_default(
    ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every option that changes the bundle; of files the names, and no seed where none was used."""
    (tmp_path / "tokenizer").mkdir()
    kept: list[BundleFacts] = []
    for loader in ("image_encoder.load_image_encoder", "audio_encoder.load_audio_encoder"):
        monkeypatch.setattr(f"model_export.encoders.{loader}", lambda *_: None)
    for name in ("describe", "model_card"):
        monkeypatch.setattr(f"model_export.encoders.encoder_types.{name}", lambda *_, **__: "a text")
    monkeypatch.setattr("model_export.encoders.encoder_graphs.encoder_parts", lambda *_: None)
    monkeypatch.setattr(
        "model_export.export.bundle_parts.export_bundle", lambda *given: kept.append(given[-1])
    )
    words = ("--n-frames", 4, "--opset", 19, "--clap-tokenizer", tmp_path / "tokenizer", "--name", "mine")
    for more in ((), (*words, "--random-weights", "--device", "cuda")):
        assert ahse("export", "clip-clap", "--out", tmp_path / "b", *more)[0] == 0
    start = "ahse export clip-clap --image-model ViT-B-32 "
    assert [facts.command for facts in kept] == [
        f"{start}--audio-pretrained 630k-audioset --out b",
        f"{start}--audio-pretrained 630k-audioset --clap-tokenizer tokenizer --device cuda --n-frames 4 "
        "--opset 19 --random-weights --seed 0 --name mine --out b",
    ]


def test_export_refuses_an_existing_directory(ahse: Ahse, tmp_path: Path) -> None:
    """An existing directory is never overwritten."""
    code, _, error = ahse("export", "clip-clap", "--random-weights", "--out", tmp_path)
    assert code == 2
    assert "exists already" in error
