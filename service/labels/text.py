"""Text that clients send: one form, nothing invisible."""

from __future__ import annotations

import unicodedata

from service.errors import InvalidLabelError, LabelError

_REFUSED_CATEGORIES = {"Cc", "Cs", "Cn"}


def clean_text(text: str, what: str, limit: int, error: type[LabelError] = InvalidLabelError) -> str:
    """Canonical form (NFC), single spaces, something to see.

    Args:
        text: as it was sent.
        what: what it is, for the message: label, prompt, template.
        limit: most characters.
        error: what to raise.

    Raises:
        LabelError: empty, too long, invisible, or with control, surrogate or unassigned characters.
    """
    if len(text) > 8 * limit:
        raise error(f"a {what} has {len(text)} characters; at most {limit}")
    cleaned = " ".join(unicodedata.normalize("NFC", text).split())
    if not cleaned:
        raise error(f"a {what} is empty; every {what} needs at least one visible character")
    if len(cleaned) > limit:
        raise error(f"{what} {cleaned[:40]!r}... has {len(cleaned)} characters; at most {limit}")
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in cleaned):
        raise error(f"{what} {cleaned[:80]!a} contains control, surrogate or unassigned characters")
    if not any(character.isprintable() and not character.isspace() for character in cleaned):
        raise error(f"a {what} has no visible character")
    return cleaned
