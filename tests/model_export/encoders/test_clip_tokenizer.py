"""The tokenizer file gives the ids that open_clip's own tokenizer gives."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from model_export.encoders.image_tokenizers import CLIP_PAD_ID, clip_tokenizer

ORIGINAL = SimpleTokenizer()
TOKENIZER = clip_tokenizer(ORIGINAL)
GZSL = Path(__file__).parents[4] / "shared" / "gzsl"

_TEXT = """
playing café naïve Straße 北京 водопад 🎻🔥 3 1984 don't they're I'LL ! !!! ... (hum) snake_case a/b 50% #1 -
-- AC/DC ¿qué? “quoted” e\u0301clair it\u2019s \u2019s \ufb01re \u0131 \U0001d4b3
"""
WORDS = [*_TEXT.split(), "x" * 90, "\u00a0", "\t"]


def _theirs(text: str) -> list[int]:
    return [ORIGINAL.sot_token_id, *ORIGINAL.encode(text), ORIGINAL.eot_token_id]


def _names() -> list[str]:
    """Every name and every spelling of a class in the published lists."""
    found: set[str] = set()
    for path in sorted(GZSL.rglob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found.update(cell for row in csv.reader(file) for cell in row)
    for path in sorted(GZSL.rglob("*.txt")):
        found.update(path.read_text(encoding="utf-8").splitlines())
    return sorted(found)


def test_generated_texts() -> None:
    """Accents, digits, emoji, punctuation, contractions, quotes, in every mixture."""
    draw = random.Random(0)  # noqa: S311  (no secret)
    gaps = [" ", "", "  "]
    texts = [draw.choice(gaps).join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(3000)]
    differing = [text for text in texts if TOKENIZER.encode(text).ids != _theirs(text)]
    assert differing == []


@given(st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_latin_text(text: str) -> None:
    """Without control characters and HTML entities, which the file can't express."""
    if "&" not in text and _repaired(text) == text:
        assert TOKENIZER.encode(text).ids == _theirs(text)


def _repaired(text: str) -> str:
    import ftfy

    return ftfy.fix_text(text, normalization=None, uncurl_quotes=False)


@pytest.mark.skipif(not GZSL.is_dir(), reason="../shared/gzsl is not here")
def test_every_name_of_the_published_class_lists() -> None:
    """As they are, and in a template."""
    names = _names()
    assert len(names) > 800
    texts = [*names, *(f"a photo of a {name}." for name in names)]
    assert [text for text in texts if TOKENIZER.encode(text).ids != _theirs(text)] == []


def test_long_texts_are_cut_like_open_clips_and_padded_with_its_zeros() -> None:
    """The end token stays the last one."""
    tokenizer = clip_tokenizer(ORIGINAL)
    tokenizer.enable_truncation(77)
    tokenizer.enable_padding(length=77, pad_id=CLIP_PAD_ID)
    texts = ["dog " * 200, "dog " * 75, "dog " * 76, "", "bell"]
    assert [tokenizer.encode(text).ids for text in texts] == ORIGINAL(texts).tolist()


def test_the_vocabulary_is_open_clips() -> None:
    """Token by token."""
    assert TOKENIZER.get_vocab() == ORIGINAL.encoder


def test_special_tokens_by_name() -> None:
    """Whoever writes them gets them, as with open_clip."""
    for text in ("<start_of_text>", "a <end_of_text> b", "a <START_OF_TEXT>"):
        assert TOKENIZER.encode(text).ids == _theirs(text)


def test_what_the_file_can_not_express() -> None:
    """Documented: an HTML entity is read as it is written."""
    assert TOKENIZER.encode("rock &amp; roll").ids != _theirs("rock &amp; roll")
