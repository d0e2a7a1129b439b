"""Prompt templates: sentences with a place for the name, such as `a video of a {}.`."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import InvalidTemplateError

PLACEHOLDER = "{}"
MAX_TEMPLATES = 64
MAX_TEMPLATE_CHARACTERS = 500


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Check templates that a client sent.

    Raises:
        InvalidTemplateError: too many, too long, or one without the placeholder.
    """
    if len(templates) > MAX_TEMPLATES:
        raise InvalidTemplateError(f"{len(templates)} templates were given; at most {MAX_TEMPLATES}")
    for template in templates:
        if PLACEHOLDER not in template:
            raise InvalidTemplateError(
                f"template {template[:80]!r} has no {PLACEHOLDER}, which stands for the name"
            )
        if len(template) > MAX_TEMPLATE_CHARACTERS:
            raise InvalidTemplateError(
                f"template {template[:40]!r}... is longer than {MAX_TEMPLATE_CHARACTERS} characters"
            )
    return tuple(templates)


def fill(template: str, name: str) -> str:
    """Put a name into a template. Literal replacement: neither is ever read as a format."""
    return template.replace(PLACEHOLDER, name)
