"""A made-up tokenizer with RoBERTa's form and any size: for random weights, where no real one is at hand."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

PAD_ID = 1
"""What rows of the stand-in are filled with."""

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def stand_in_tokenizer(n_rows: int) -> Tokenizer:
    """Every byte of a text is a token; the rest of the vocabulary is never used.

    Args:
        n_rows: size of the vocabulary, at least 260.
    """
    words = [*_SPECIAL, *sorted(ByteLevel.alphabet())]
    words += [f"<unused{index}>" for index in range(n_rows - len(words))]
    tokenizer = Tokenizer(BPE({word: index for index, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in _SPECIAL])
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
