"""A tokenizer whose ids are the rows of a text encoder's embedding: read from a file, or a stand-in."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from model_export.errors import EncoderError


def open_tokenizer(path: Path, n_rows: int, option: str, spare: float = 0.0) -> Tokenizer:
    """Read a tokenizer.json, without the padding and truncation that it may bring.

    Args:
        path: The file.
        n_rows: Rows of the text encoder's embedding.
        option: Flag by which another file is given, for messages.
        spare: Largest share of the rows that may have no token.

    Raises:
        EncoderError: The file can't be read, or has another vocabulary.
    """
    try:
        tokenizer = _without_unreachable(Tokenizer.from_file(str(path)), n_rows)
    except Exception as error:
        raise EncoderError(f"{path.name} is not a tokenizer.json of the tokenizers library") from error
    size = tokenizer.get_vocab_size()
    # As many ids as tokens, from 0 on: no holes.
    whole = max(tokenizer.get_vocab().values()) == size - 1
    if not whole or not (1 - spare) * n_rows <= size <= n_rows:
        raise EncoderError(
            f"{path.name} has a vocabulary of {size} tokens, the text encoder knows {n_rows}: it is the "
            f"tokenizer of another model, or an emptied one. Give the right tokenizer.json with {option}"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _without_unreachable(tokenizer: Tokenizer, n_rows: int) -> Tokenizer:
    """Drop entries beyond the embedding that no text can give.

    Copies of roberta-base's file have two, <num> and <NUM>, which no merge makes.
    """
    content = json.loads(tokenizer.to_str())
    model = content["model"]
    if model["type"] != "BPE":
        return tokenizer
    merges = (merge if isinstance(merge, list) else merge.split(" ") for merge in model["merges"])
    reachable = {"".join(merge) for merge in merges} | set(ByteLevel.alphabet())
    reachable |= {token["content"] for token in content["added_tokens"]}
    kept = {word: row for word, row in model["vocab"].items() if row < n_rows or word in reachable}
    if len(kept) == len(model["vocab"]):
        return tokenizer
    model["vocab"] = kept
    return Tokenizer.from_str(json.dumps(content))


STAND_IN_PAD_ID = 1
"""What rows of the stand-in are filled with."""

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def stand_in_tokenizer(n_rows: int) -> Tokenizer:
    """A made-up tokenizer of RoBERTa's form and any size, for random weights where no real one is at hand.

    Every byte of a text is a token; the rest of the vocabulary is never used.

    Args:
        n_rows: Size of the vocabulary, at least 260.
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
