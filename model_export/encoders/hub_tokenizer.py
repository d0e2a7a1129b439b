"""The tokenizer of an open_clip model that takes one of the hub, with open_clip's cleaning before it."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers

from model_export.encoders.errors import EncoderError
from model_export.encoders.tokenizer_file import open_tokenizer
from model_export.hub.checkpoints import tokenizer_file
from model_export.hub.fetch import fetch
from model_export.hub.wanted import Hub, Wanted

OPTION = "--image-tokenizer FOLDER"
_SETTINGS = "tokenizer_config.json"
_SPACES = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
_CLEANING = {
    "whitespace": _SPACES,
    "lower": [*_SPACES, normalizers.Lowercase()],
    "canonicalize": [
        normalizers.Replace("_", " "),
        normalizers.Replace(Regex(f"[{re.escape(string.punctuation)}]"), ""),
        normalizers.Lowercase(),
        *_SPACES,
    ],
}


def hub_tokenizer(config: dict[str, Any], n_rows: int, local: Path | None) -> tuple[Tokenizer, int]:
    """The tokenizer and the id that it pads with.

    Args:
        config: open_clip's `text_cfg`, with `hf_tokenizer_name`.
        n_rows: Of the text encoder's embedding.
        local: A folder with tokenizer.json and tokenizer_config.json instead of the hub's.

    Raises:
        EncoderError: a tokenizer file can't express what open_clip does with texts, or it is not whole.
        HubError: it can't be had.
    """
    extra = dict(config.get("tokenizer_kwargs", {}))
    cleaning = _CLEANING.get(extra.pop("clean", "whitespace"))
    if cleaning is None or extra or config.get("tokenizer_mode"):
        raise EncoderError("open_clip treats this model's texts in a way that no tokenizer file can express")
    repo = config["hf_tokenizer_name"]
    path = tokenizer_file(str(local), OPTION) if local else _fetched(repo, "tokenizer.json", _SETTINGS)
    tokenizer = open_tokenizer(path, n_rows, OPTION)
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([*cleaning, *own])
    return tokenizer, _pad_id(tokenizer, _settings(repo, local))


def _settings(repo: str, local: Path | None) -> Path:
    if local is None:
        return _fetched(repo, _SETTINGS)
    return (local if local.is_dir() else local.parent) / _SETTINGS


def _fetched(repo: str, name: str, *beside: str) -> Path:
    return fetch(Wanted(repo, (name,), OPTION, beside=beside), Hub()).path


def _pad_id(tokenizer: Tokenizer, settings: Path) -> int:
    try:
        token = json.loads(settings.read_text(encoding="utf-8"))["pad_token"]
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(
            f"{_SETTINGS} beside the tokenizer must say the pad_token; give {OPTION}"
        ) from error
    found = tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token)
    if found is None:
        raise EncoderError(f"the pad_token of {_SETTINGS} is not in the tokenizer's vocabulary")
    return int(found)
