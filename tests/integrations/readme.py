"""What the READMEs of integrations tell people to type, so that tests type it too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

INTEGRATIONS = Path(__file__).resolve().parents[2] / "integrations"


def blocks(integration: str, language: str) -> list[str]:
    """The code blocks of one language, in order."""
    text = (INTEGRATIONS / integration / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def filled(block: str, values: Mapping[str, object]) -> str:
    """A block with the values of this run; each of the texts to replace must be in it."""
    for text, value in values.items():
        assert text in block, text
        block = block.replace(text, str(value))
    return block
