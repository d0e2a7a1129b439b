"""The tokenizers of open_clip's models as files of the tokenizers library: the same ids for the same text.

Most models have open_clip's own tokenizer, the others one from the hub, with open_clip's cleaning before it.

What the file can't express of open_clip's own is ftfy's repair of garbled text, HTML entities (open_clip
reads `&amp;` as `&`) and full-width letters; text with them gets the ids of what it literally says. A special
token by its name is found also where it follows punctuation without a space.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

from model_export.encoders.tokenizer_file import open_tokenizer
from model_export.errors import EncoderError, HubError, PinError
from model_export.export.quiet_libraries import quiet
from model_export.hub.checkpoints import local_file
from model_export.hub.fetch import ModelFile, fetch
from model_export.hub.hub_requests import Hub, Wanted

CLIP_PAD_ID = 0
"""open_clip fills rows with zeros; zero is also the id of `!`."""

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
# What ftfy, which cleans texts for open_clip, always writes plainly.
_PLAIN = {
    "[\u02bc\u2018-\u201b]": "'",
    "[\u201c-\u201f]": '"',
    "\ufb00": "ff",
    "\ufb01": "fi",
    "\ufb02": "fl",
    "\ufb03": "ffi",
    "\ufb04": "ffl",
    "[\ufeff\u206a-\u206f\ufff9-\ufffc]": "",
}


def clip_tokenizer(original: SimpleTokenizer) -> Tokenizer:
    """The same tokenizer in the tokenizers library; rows start and end with open_clip's special tokens."""
    tokenizer = Tokenizer(
        BPE(
            original.encoder,
            sorted(original.bpe_ranks, key=original.bpe_ranks.get),
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(Regex(pattern), plain) for pattern, plain in _PLAIN.items()),
            normalizers.NFC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = (original.decoder[index] for index in (original.sot_token_id, original.eot_token_id))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=True) for token in (start, end)])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, original.sot_token_id), (end, original.eot_token_id)],
    )
    return tokenizer


OPTION = "--image-tokenizer FOLDER"
_FILE, _SETTINGS, _CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
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
# Rows of an embedding that no token has: CLIPA has 32000 rows for the 30522 tokens of BERT.
_SPARE = 0.05
_COMPARED = (
    "bell",
    "A photo of: a DOG!",
    "snake_case,  2 spaces",
    "naïve café $1,000",
    "",
    "long name " * 100,
)


@dataclass(frozen=True)
class HubTokenizer:
    """A tokenizer, the id that it pads with, and the files that it is from."""

    tokenizer: Tokenizer
    pad_id: int
    files: tuple[ModelFile, ...]


def check_expressible(config: Mapping[str, Any]) -> None:
    """Refuse what no tokenizer file can express of open_clip's treatment of texts.

    Args:
        config: The model's `text_cfg` in open_clip, with `hf_tokenizer_name`.

    Raises:
        EncoderError: The model has such a treatment.
    """
    extra = dict(config.get("tokenizer_kwargs", {}))
    cleaning = extra.pop("clean", "whitespace")
    extra.pop("strip_sep_token", None)
    if cleaning not in _CLEANING or extra or config.get("tokenizer_mode"):
        raise EncoderError("open_clip treats this model's texts in a way that no tokenizer file can express")


def hub_tokenizer(config: Mapping[str, Any], n_rows: int, local: Path | None, hub: Hub) -> HubTokenizer:
    """The tokenizer of a model, compared with what open_clip makes of the same files.

    Args:
        config: The model's `text_cfg` in open_clip, with `hf_tokenizer_name`.
        n_rows: Rows of the text encoder's embedding.
        local: A folder with tokenizer.json and tokenizer_config.json instead of the hub's.
        hub: Where to ask.

    Raises:
        EncoderError: A tokenizer file can't express what open_clip does with texts, or a file is missing.
        HubError: The tokenizer can't be had.
    """
    check_expressible(config)
    files = _local_files(local, hub) if local else _hub_files(config["hf_tokenizer_name"], hub)
    folder = files[0].path.parent
    extra = dict(config.get("tokenizer_kwargs", {}))
    tokenizer = open_tokenizer(files[0].path, n_rows, OPTION, spare=_SPARE)
    if extra.get("strip_sep_token"):
        _strip_separator(tokenizer)
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence([*_CLEANING[extra.get("clean", "whitespace")], *own])
    length = int(config.get("context_length", 77))
    return HubTokenizer(tokenizer, _compared(tokenizer, folder, length, extra), files)


def _hub_files(repo: str, hub: Hub) -> tuple[ModelFile, ...]:
    """Side by side in the cache: the tokenizer first, then what transformers wants to see beside it."""
    wanted = Wanted(repo, (_FILE,), OPTION, beside=(_SETTINGS,))
    tokenizer = fetch(wanted, hub)
    files = [tokenizer, fetch(Wanted(repo, (_SETTINGS,), OPTION, tokenizer.commit), hub)]
    try:
        files.append(fetch(Wanted(repo, (_CONFIG,), OPTION, tokenizer.commit), hub))
    except PinError:
        raise
    except HubError:  # many repositories have none, and need none
        pass
    return tuple(files)


def _local_files(given: Path, hub: Hub) -> tuple[ModelFile, ...]:
    folder = given if given.is_dir() else given.parent
    tokenizer = folder / _FILE if given.is_dir() else given
    if tokenizer.name != _FILE or not (folder / _SETTINGS).is_file() or not tokenizer.is_file():
        raise EncoderError(f"{OPTION} must have {_FILE} and {_SETTINGS}, which says the pad_token")
    return tuple(local_file(path, hub) for path in (tokenizer, folder / _SETTINGS))


def _strip_separator(tokenizer: Tokenizer) -> None:
    """A zero in place of the separator after a text, as open_clip writes it for CLIPA (BERT's tokenizer)."""
    start, end = "[CLS]", "[SEP]"
    tokenizer.post_processor = TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, tokenizer.token_to_id(start)), (end, 0)]
    )


def _compared(tokenizer: Tokenizer, folder: Path, length: int, extra: Mapping[str, Any]) -> int:
    """The id that open_clip pads with, once both have given the same ids for the same texts."""
    try:
        with quiet():
            original = HFTokenizer(str(folder), context_length=length, **extra)
            expected = original(list(_COMPARED)).tolist()
            pad_id = int(original.tokenizer.pad_token_id)
        if tokenizer.id_to_token(pad_id) is None:
            raise ValueError("transformers added a token for the padding")
    except Exception as error:
        raise EncoderError(
            f"transformers can't read the tokenizer: {_SETTINGS} beside it must say the tokenizer_class and "
            f"the pad_token; give {OPTION}"
        ) from error
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.enable_truncation(length)
    copy.enable_padding(length=length, pad_id=pad_id)
    if [copy.encode(text).ids for text in _COMPARED] != expected:
        raise EncoderError(
            f"{_FILE} gives other ids for some texts than open_clip, which reads it by way of transformers: "
            f"no tokenizer file can express this one. Give another with {OPTION}, or choose another model"
        )
    return pad_id
