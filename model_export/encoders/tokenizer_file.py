"""A tokenizer from a file, refused unless its ids are the rows of the text encoder's embedding."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from model_export.errors import EncoderError


def open_tokenizer(path: Path, n_rows: int, option: str, spare: float = 0.0) -> Tokenizer:
    """Read a tokenizer.json, without the padding and truncation that it may bring.

    Args:
        path: Of the file.
        n_rows: Of the text encoder's embedding.
        option: By which another file is given, for messages.
        spare: Largest share of the rows that may have no token.

    Raises:
        EncoderError: no such file, or another vocabulary, as an emptied one of transformers has.
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
