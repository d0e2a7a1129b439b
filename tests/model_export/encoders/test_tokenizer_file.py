"""A tokenizer file is taken only if its ids are the rows of the embedding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel

from model_export.encoders.tokenizer_file import open_tokenizer, stand_in_tokenizer
from model_export.errors import EncoderError

ROBERTA = Path(__file__).parents[4] / "shared" / "tokenizers" / "roberta-base" / "tokenizer.json"


@pytest.mark.skipif(not ROBERTA.is_file(), reason="../shared/tokenizers is not here")
def test_the_real_roberta_tokenizer_fits_the_real_embedding() -> None:
    """50265 rows; the ids of a text as transformers' documentation gives them."""
    tokenizer = open_tokenizer(ROBERTA, 50265, "--x")
    assert tokenizer.get_vocab_size() == 50265
    assert tokenizer.encode("Hello world").ids == [0, 31414, 232, 2]


def test_entries_that_no_text_can_give_are_dropped(tmp_path: Path) -> None:
    """Copies of roberta-base's file have two beyond the embedding."""
    path = _save(stand_in_tokenizer(300), tmp_path)
    content = json.loads(path.read_text())
    content["model"]["vocab"] |= {"<num>": 300, "<NUM>": 301}
    path.write_text(json.dumps(content))
    assert open_tokenizer(path, 300, "--x").get_vocab_size() == 300


def test_a_reachable_entry_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    """Its row would be read from nowhere."""
    vocabulary = {"a": 0, "b": 1, "ab": 2}
    path = _save(Tokenizer(BPE(vocabulary, [("a", "b")])), tmp_path)
    with pytest.raises(EncoderError, match=r"vocabulary of 3 tokens, the text encoder knows 2"):
        open_tokenizer(path, 2, "--x")


def test_an_emptied_tokenizer_is_refused(tmp_path: Path) -> None:
    """What transformers gives without a network, without an error."""
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    path = _save(Tokenizer(WordLevel(special, unk_token="<unk>")), tmp_path)  # noqa: S106
    with pytest.raises(EncoderError, match=r"vocabulary of 5 tokens.*or an emptied one.*--clap-tokenizer"):
        open_tokenizer(path, 50265, "--clap-tokenizer FILE")


def test_holes_in_the_ids_are_refused(tmp_path: Path) -> None:
    """As many tokens as rows, but an id beyond the last row."""
    path = _save(Tokenizer(WordLevel({"a": 0, "b": 5}, unk_token="a")), tmp_path)  # noqa: S106
    with pytest.raises(EncoderError, match="another model"):
        open_tokenizer(path, 2, "--x")


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00\xff"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """By its name, without the library's text."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match=r"^tokenizer\.json is not a tokenizer\.json"):
        open_tokenizer(path, 10, "--x")


def test_padding_and_truncation_of_the_file_are_left_out(tmp_path: Path) -> None:
    """The service sets its own."""
    tokenizer = stand_in_tokenizer(300)
    tokenizer.enable_padding(length=50)
    tokenizer.enable_truncation(4)
    assert len(open_tokenizer(_save(tokenizer, tmp_path), 300, "--x").encode("abcdef").ids) == 8


def test_the_stand_in_has_any_size_and_tells_texts_apart() -> None:
    """Start, one token a byte, end."""
    tokenizer = stand_in_tokenizer(50265)
    assert tokenizer.get_vocab_size() == 50265
    assert sorted(tokenizer.get_vocab().values()) == list(range(50265))
    ids = tokenizer.encode("dog é").ids
    assert (ids[0], ids[-1], len(ids)) == (0, 2, 2 + len("dog é".encode()))
    assert tokenizer.encode("dig é").ids != ids
    assert tokenizer.token_to_id("<pad>") == 1


def _save(tokenizer: Tokenizer, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
