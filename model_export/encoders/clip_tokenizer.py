"""open_clip's own tokenizer as a file of the tokenizers library: the same ids for the same text.

What the file can't express is ftfy's repair of garbled text, HTML entities (open_clip reads `&amp;` as `&`)
and full-width letters; text with them gets the ids of what it literally says. A special token by its name is
found also where it follows punctuation without a space.
"""

from __future__ import annotations

from open_clip.tokenizer import SimpleTokenizer
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing

PAD_ID = 0
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
