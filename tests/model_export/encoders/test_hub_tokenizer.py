"""A tokenizer of the hub with open_clip's cleaning in front gives the ids of open_clip's HFTokenizer."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer
from transformers import BertTokenizer, GemmaTokenizer

from model_export.encoders import image_tokenizers
from model_export.encoders.image_tokenizers import HubTokenizer, hub_tokenizer
from model_export.encoders.tokenizer_file import stand_in_tokenizer
from model_export.errors import EncoderError, PinError
from model_export.hub.hub_requests import Hub
from model_export.hub.pins import Pin, Pins
from tests.model_export.hub.loopback import LoopbackHub, serving

N_ROWS = 300
LENGTH = 32
TEXTS = [
    "Church  bell!",
    "  A photo of: a DOG.",
    "snake_case_name",
    "tab\there",
    "",
    "naïve café (old)",
    "$1,000",
    "a long story " * 20,
]
Make = Callable[[Path], int]


def _end_token(folder: Path) -> int:
    """A tokenizer as transformers saves it, padded with its end token as SigLIP's is; returns its size."""
    stand_in_tokenizer(N_ROWS).save(str(folder / "tokenizer.json"))
    _write_settings(folder, tokenizer_class="PreTrainedTokenizerFast", pad_token="</s>", eos_token="</s>")  # noqa: S106
    return N_ROWS


def _gemma(folder: Path, padding_side: str = "right") -> int:
    """Of SigLIP2's kind: bytes, pieces and an end token."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    words += ["▁", *(chr(code) for code in range(33, 127)), "do", "dog", "▁do", "▁dog"]
    merges = [("d", "o"), ("do", "g"), ("▁", "do"), ("▁do", "g")]
    made: Any = GemmaTokenizer
    rows = {word: row for row, word in enumerate(words)}
    made(rows, merges, add_eos_token=True, padding_side=padding_side).save_pretrained(folder)
    return len(words)


def _bert(folder: Path) -> int:
    """Of CLIPA's kind."""
    letters = [f"{prefix}{letter}" for prefix in ("", "##") for letter in string.ascii_lowercase]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, "bell", "dog", "##.", "$", ","]
    made: Any = BertTokenizer
    made({word: row for row, word in enumerate(words)}).save_pretrained(folder)
    return len(words)


def _write_settings(folder: Path, **settings: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _loaded(folder: Path, n_rows: int, **extra: Any) -> HubTokenizer:
    config = {"hf_tokenizer_name": "owner/name", "context_length": LENGTH, "tokenizer_kwargs": extra}
    return hub_tokenizer(config, n_rows, folder, Hub())


def _ids(found: HubTokenizer) -> list[list[int]]:
    tokenizer = Tokenizer.from_str(found.tokenizer.to_str())
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH, pad_id=found.pad_id)
    return [tokenizer.encode(text).ids for text in TEXTS]


@pytest.mark.parametrize("cleaning", ["canonicalize", "whitespace", "lower"])
@pytest.mark.parametrize("make", [_end_token, _gemma], ids=["end_token", "gemma"])
def test_ids_are_open_clips(tmp_path: Path, make: Make, cleaning: str) -> None:
    """Padded to the full length; long texts are cut before their end token."""
    n_rows = make(tmp_path)
    theirs = HFTokenizer(str(tmp_path), context_length=LENGTH, clean=cleaning)(TEXTS).tolist()
    assert _ids(_loaded(tmp_path, n_rows, clean=cleaning)) == theirs


def test_the_pad_id_is_the_settings(tmp_path: Path) -> None:
    """SigLIP pads with its end token, SigLIP2 does not."""
    assert _loaded(tmp_path, _end_token(tmp_path)).pad_id == 2
    assert _loaded(tmp_path, _gemma(tmp_path)).pad_id == 0


def test_a_stripped_separator_is_a_zero(tmp_path: Path) -> None:
    """CLIPA's texts, and its embedding with more rows than BERT has tokens."""
    n_rows = round(_bert(tmp_path) / 0.96)
    theirs = HFTokenizer(str(tmp_path), context_length=LENGTH, strip_sep_token=True)(TEXTS).tolist()
    found = _loaded(tmp_path, n_rows, strip_sep_token=True)
    assert _ids(found) == theirs
    assert all(0 in row[1:] for row in theirs)
    assert found.tokenizer.encode("bell").ids[-1] == 0


def test_far_more_rows_than_tokens_are_another_model(tmp_path: Path) -> None:
    """An emptied tokenizer would pass otherwise."""
    with pytest.raises(EncoderError, match="the tokenizer of another model, or an emptied one"):
        _loaded(tmp_path, 2 * _bert(tmp_path), strip_sep_token=True)


def test_ids_that_differ_from_open_clips_are_refused(tmp_path: Path) -> None:
    """Padding on the left is one way to differ: the service pads on the right."""
    n_rows = _gemma(tmp_path, padding_side="left")
    with pytest.raises(EncoderError, match="gives other ids for some texts than open_clip"):
        _loaded(tmp_path, n_rows)


@pytest.mark.parametrize(
    "config",
    [
        {"tokenizer_kwargs": {"language": "fr"}},
        {"tokenizer_mode": "clips"},
        {"tokenizer_kwargs": {"clean": "x"}},
    ],
)
def test_what_no_file_can_express_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    """Rather than exported wrongly."""
    with pytest.raises(EncoderError, match="no tokenizer file can express"):
        hub_tokenizer({"hf_tokenizer_name": "owner/name", **config}, _end_token(tmp_path), tmp_path, Hub())


@pytest.mark.parametrize("settings", [None, "{}", '{"pad_token": "<nothing>"}', "no json"])
def test_without_a_pad_token_it_is_refused(tmp_path: Path, settings: str | None) -> None:
    """SigLIP's is not what one would guess."""
    n_rows = _end_token(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.unlink()
    if settings is not None:
        path.write_text(settings)
    with pytest.raises(EncoderError, match=r"pad_token|is no JSON"):
        _loaded(tmp_path, n_rows)


def test_a_tokenizer_of_the_hub_comes_with_its_files(tmp_path: Path) -> None:
    """By the hub's names; a config.json beside it is one of them, and pinned as the others are."""
    made = tmp_path / "made"
    made.mkdir()
    n_rows, config = _gemma(made), {"hf_tokenizer_name": "owner/name", "context_length": LENGTH}
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    with serving(LoopbackHub({"owner/name": files})) as remote:
        hub = Hub(remote.endpoint, tmp_path / "cache", Pins())
        found = hub_tokenizer(config, n_rows, None, hub)
        assert [file.path.name for file in found.files] == ["tokenizer.json", "tokenizer_config.json"]
        assert _ids(found) == _ids(_loaded(made, n_rows))
        files["config.json"] = b'{"model_type": "gemma"}'
        assert hub_tokenizer(config, n_rows, None, hub).files[-1].path.name == "config.json"
        pin = Pin("owner/name", remote.commit("owner/name"), {"config.json": "0" * 64})
        with pytest.raises(PinError, match=r"config\.json of owner/name"):
            hub_tokenizer(config, n_rows, None, replace(hub, pins=Pins((pin,))))


def test_what_is_compared_has_words_signs_and_length() -> None:
    """An emptied tokenizer, a lost cleaning and a lost end token all show in it."""
    assert len(max(image_tokenizers._COMPARED, key=len).split()) > 77
