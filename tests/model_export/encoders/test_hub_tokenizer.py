"""A tokenizer of the hub with open_clip's cleaning in front gives the ids of open_clip's HFTokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from open_clip.tokenizer import HFTokenizer

from model_export.encoders.errors import EncoderError
from model_export.encoders.hub_tokenizer import hub_tokenizer
from model_export.encoders.stand_in import stand_in_tokenizer

N_ROWS = 300
TEXTS = [
    "Church  bell!",
    "  A photo of: a DOG.",
    "snake_case_name",
    "tab\there",
    "",
    "naïve café (old)",
    "$1,000",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer as transformers saves it, padded with its end token as SigLIP's is."""
    stand_in_tokenizer(N_ROWS).save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "</s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


@pytest.mark.parametrize("cleaning", ["canonicalize", "whitespace", "lower"])
def test_ids_are_open_clips(folder: Path, cleaning: str) -> None:
    """Padded to the full length."""
    config = {"hf_tokenizer_name": "owner/name", "tokenizer_kwargs": {"clean": cleaning}}
    tokenizer, pad_id = hub_tokenizer(config, N_ROWS, folder)
    assert pad_id == 2
    theirs = HFTokenizer(str(folder), context_length=32, clean=cleaning)(TEXTS).tolist()
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(length=32, pad_id=pad_id)
    assert [tokenizer.encode(text).ids for text in TEXTS] == theirs


@pytest.mark.parametrize(
    "config",
    [
        {"tokenizer_kwargs": {"strip_sep_token": True}},
        {"tokenizer_mode": "clips"},
        {"tokenizer_kwargs": {"clean": "x"}},
    ],
)
def test_what_no_file_can_express_is_refused(folder: Path, config: dict[str, Any]) -> None:
    """Rather than exported wrongly."""
    with pytest.raises(EncoderError, match="no tokenizer file can express"):
        hub_tokenizer({"hf_tokenizer_name": "owner/name", **config}, N_ROWS, folder)


@pytest.mark.parametrize("settings", [None, "{}", '{"pad_token": "<nothing>"}'])
def test_without_a_pad_token_it_is_refused(folder: Path, settings: str | None) -> None:
    """SigLIP's is not what one would guess."""
    path = folder / "tokenizer_config.json"
    path.unlink()
    if settings is not None:
        path.write_text(settings)
    with pytest.raises(EncoderError, match="pad_token"):
        hub_tokenizer({"hf_tokenizer_name": "owner/name"}, N_ROWS, folder)
