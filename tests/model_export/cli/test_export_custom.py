"""`ahse export custom`: a function of one's own to a bundle that serves, or a clear refusal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundle.directory import read_manifest
from service.cli import main
from service.encode.text import encode_labels
from service.head.similarity import SimilarityHead
from service.labels.label import make_label
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.conftest import Ahse

Export = Callable[..., Path]

# What a user writes: small encoders with random weights, and functions that return them.
BUILDERS = """
from dataclasses import replace
from datetime import UTC, datetime

import torch
from torch import nn
from torch.nn.functional import normalize

from model_export.encoders.custom import CustomBundle
from model_export.encoders.encoder_types import ImageEncoder, AudioEncoder, TextEncoder
from model_export.encoders.tokenizer_file import stand_in_tokenizer
from model_export.export.head_parts import Fitted
from service.bundle.manifest import KnownNames
from service.bundle.head_specs import SimilarityScore, SimilarityScores
from service.bundle.provenance import Licence

LICENCE = Licence(part="encoder", licence="Apache-2.0", source="a test")
SCORE = SimilarityScore(temperature=0.5, unknown_threshold=1.0, unknown_slope=0.1, unknown_scale=1.0)


class Picture(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 6)

    def forward(self, frames):
        return normalize(self.layer(frames.float().mean(dim=(1, 2)) / 255), dim=-1)


class Sound(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 5)

    def forward(self, waveform):
        power = waveform.unflatten(1, (8, -1)).square().mean(dim=2)
        return normalize(self.layer(torch.log(power + 1e-3)), dim=-1)


class MixesItsBatch(Sound):
    def forward(self, waveform):
        return super().forward(waveform.view(int(waveform.shape[0] * 8 / 8.0), -1).flip(0))


class Words(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.table = nn.Embedding(300, dim)

    def forward(self, tokens):
        mask = (tokens != 1).float()[..., None]
        return normalize((self.table(tokens) * mask).sum(dim=1) + 0.01, dim=-1)


class SharedWords(nn.Module):
    def __init__(self, visual, audio):
        super().__init__()
        self.visual, self.audio = visual, audio
        self.register_buffer("known", normalize(torch.randn(4, 6), dim=-1))

    def forward(self, tokens):
        visual = self.visual(tokens)
        return visual, self.audio(tokens), (visual @ self.known.T).amax(dim=-1, keepdim=True)


def _text(module):
    return TextEncoder(module.eval(), stand_in_tokenizer(300), 24, True, 1, ("{}", "the word {}"))


def _bundle(visual_text, audio_text, sound, **more):
    image = ImageEncoder(
        Picture().eval(), visual_text, 6, 32, "shorter_side_bicubic_center_crop", 20.0, LICENCE
    )
    sound = AudioEncoder(sound.eval(), audio_text, 5, 8000, 0.5, "repeat", 10.0, LICENCE)
    return CustomBundle(
        image, sound, "For a test.", "random weights", "# A card",
        version="2.1", n_frames=3, created=datetime(2026, 1, 2, tzinfo=UTC), **more,
    )


def separate(work):
    torch.manual_seed(0)
    return _bundle(_text(Words(6)), _text(Words(5)), Sound())


def shared(work):
    work.mkdir(parents=True, exist_ok=True)
    (work / "fetched").write_text("once")
    torch.manual_seed(0)
    visual, audio = Words(6), Words(5)
    text = _text(SharedWords(visual, audio))
    return _bundle(
        text, text, Sound(), notice="Random weights.", texts={"NOTICE": "Nobody."},
        known=KnownNames(output="nearness", threshold=0.3),
        fitted=Fitted(0.7, SimilarityScores(both=SCORE, visual=SCORE, audio=SCORE)),
    )


def mixes(work):
    torch.manual_seed(0)
    return _bundle(_text(Words(6)), _text(Words(5)), MixesItsBatch())


def one_tensor_for_both(work):
    text = _text(Words(6))
    return _bundle(text, text, Sound())


def another_dim(work):
    built = _bundle(_text(Words(6)), _text(Words(5)), Sound())
    return replace(built, audio=replace(built.audio, dim=4))


def number(work):
    return 3
"""


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The command in a folder with the builders: a function and a directory's name in, the directory out."""
    folder = tmp_path_factory.mktemp("custom")
    (folder / "builders_for_a_test.py").write_text(BUILDERS, encoding="utf-8")

    def run(function: str, out: str) -> Path:
        words = ["export", "custom", f"builders_for_a_test:{function}", "--work", "work", "--out", out]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setattr("sys.path", sys.path[:])
            patch.setattr("sys.argv", ["ahse", *words, "--name", "mine"])
            with pytest.raises(SystemExit) as ended:
                main()
        assert not ended.value.code
        return folder / out

    return run


@pytest.fixture(scope="module")
def shared(export: Export) -> Path:
    """Written once; don't change it."""
    return export("shared", "shared")


def _load(directory: Path) -> Bundle:
    return load_bundle(directory, Runtime(device="cpu"))


def test_a_shared_text_encoder_is_written_once(shared: Path) -> None:
    """With all that the function said in the manifest."""
    bundle = _load(shared)
    manifest = bundle.manifest
    assert manifest.shares_text
    assert {path.name for path in shared.iterdir()} == {
        *("visual.onnx", "audio.onnx", "text.onnx", "tokenizer.json"),
        *("MODEL_CARD.md", "NOTICE", "manifest.json"),
    }
    assert (manifest.name, manifest.version, manifest.notice) == ("mine", "2.1", "Random weights.")
    assert (manifest.visual.n_frames, manifest.visual.dim, manifest.audio.dim) == (3, 6, 5)
    assert manifest.provenance.parity.keys() == {"visual", "audio", "text"}
    assert manifest.provenance.created.isoformat() == "2026-01-02T00:00:00+00:00"
    assert manifest.provenance.command == (
        "ahse export custom builders_for_a_test:shared --work work --name mine --out shared"
    )
    assert manifest.known_names is not None
    assert isinstance(bundle.head, SimilarityHead)
    assert (bundle.head.statistics, bundle.head.spec.visual_share) == (None, 0.7)
    assert (shared.parent / "work" / "fetched").read_text() == "once"


@pytest.mark.slow
def test_both_forms_encode_names_alike(shared: Path, export: Export) -> None:
    """The same weights, drawn in the same order, as one graph and as two."""
    separate = export("separate", "separate")
    labels = [make_label(name) for name in ("red", "a longer name", "x" * 200)]
    one, two = (encode_labels(_load(directory).encoders, labels) for directory in (shared, separate))
    np.testing.assert_allclose(one.visual, two.visual, atol=1e-6)
    np.testing.assert_allclose(one.audio, two.audio, atol=1e-6)
    assert one.nearness is not None
    assert np.isfinite(one.nearness).all()
    assert two.nearness is None
    assert {"text_visual.onnx", "text_audio.onnx", "tokenizer_audio.json"} <= {
        path.name for path in separate.iterdir()
    }


def test_a_custom_bundle_classifies(shared: Path, clips: dict[str, Path], ahse: Ahse) -> None:
    """By the command that the export names, as far as it can be run here."""
    code, said, _ = ahse(
        "classify", clips["red low"], "--bundle", shared, "--label", "red", "--label", "blue"
    )
    assert code == 0
    assert "note: Random weights." in said
    assert sum("%" in line for line in said.splitlines()) == 2


@pytest.mark.slow
def test_a_builder_with_a_fixed_date_writes_the_same_bytes_again(shared: Path, export: Export) -> None:
    """Every file, the manifest but for the directory's name in its command."""
    again = export("shared", "again")
    for path in shared.iterdir():
        ours, theirs = path.read_bytes(), (again / path.name).read_bytes()
        assert ours.replace(b"--out shared", b"--out again") == theirs, path.name
    assert read_manifest(shared).files == read_manifest(again).files


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("no_such_module:build", "give MODULE:FUNCTION, and put the module's folder into PYTHONPATH"),
        ("builders:no_such_function", "give MODULE:FUNCTION"),
        ("builders", "give MODULE:FUNCTION"),
        (":build", "give MODULE:FUNCTION"),
        ("builders:number", "returned a int, not a CustomBundle"),
        ("builders:mixes", "audio.onnx differs from torch by"),
        (
            "builders:one_tensor_for_both",
            "the text encoder of both tracks gives [1, 6] for one row where [1, 6] and [1, 5] or [1, 6] and "
            "[1, 5] and [1, 1] is needed",
        ),
        ("builders:another_dim", "the audio encoder gives [1, 5] for one row where [1, 4] is needed"),
    ],
)
def test_mistakes_end_in_one_line(
    ahse: Ahse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, says: str
) -> None:
    """Exit code 2, what to do, and no bundle."""
    (tmp_path / "builders.py").write_text(BUILDERS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", sys.path[:])
    monkeypatch.delitem(sys.modules, "builders", raising=False)
    code, _, error = ahse("export", "custom", function, "--out", tmp_path / "out")
    assert code == 2
    assert says in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
