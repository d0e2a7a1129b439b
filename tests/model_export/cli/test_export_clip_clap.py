"""`ahse export clip-clap`: what is refused; the tests of encoders/ go the whole way."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_export.cli.export_clip_clap import precisions
from model_export.errors import EncoderError
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
    ],
)
def test_mistakes_end_in_one_line(ahse: Ahse, tmp_path: Path, words: list[str], said: str) -> None:
    """Exit code 2, and nothing is written."""
    code, _, error = ahse("export", "clip-clap", "--random-weights", "--out", tmp_path / "b", *words)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_export_refuses_an_existing_directory(ahse: Ahse, tmp_path: Path) -> None:
    """An existing directory is never overwritten."""
    code, _, error = ahse("export", "clip-clap", "--random-weights", "--out", tmp_path)
    assert code == 2
    assert "exists already" in error
