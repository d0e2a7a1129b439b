"""Prompt templates: sentences with a place for the name, such as `a video of a {}.`."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import InvalidTemplateError
from service.labels.text import clean_text

PLACEHOLDER = "{}"
MAX_TEMPLATES = 64
MAX_TEMPLATE_CHARACTERS = 500


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Normalise and check templates that a client sent.

    Raises:
        InvalidTemplateError: none, too many, or one that is too long or has no placeholder.
    """
    if not 1 <= len(templates) <= MAX_TEMPLATES:
        raise InvalidTemplateError(
            f"{len(templates)} templates were given; send 1 to {MAX_TEMPLATES}, or leave them out"
        )
    cleaned = [
        clean_text(one, "template", MAX_TEMPLATE_CHARACTERS, InvalidTemplateError) for one in templates
    ]
    for template in cleaned:
        if PLACEHOLDER not in template:
            raise InvalidTemplateError(
                f"template {template[:80]!r} has no {PLACEHOLDER}, which stands for the name"
            )
    return tuple(cleaned)


def fill(template: str, name: str) -> str:
    """Put a name into a template. Literal replacement: neither is ever read as a format."""
    return template.replace(PLACEHOLDER, name)
