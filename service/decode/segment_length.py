"""How long a request wants the segments of a clip to be."""

from __future__ import annotations

import re
from typing import Literal

from service.errors import InvalidOptionError

# `auto` is the length of the window that the bundle's sound encoder takes.
SegmentLength = Literal["auto"] | float
SHORTEST_S, LONGEST_S = 1.0, 600.0


def parse_segment_length(text: str) -> SegmentLength:
    """Read `auto` or a number of seconds from 1 to 600.

    Raises:
        InvalidOptionError: anything else.
    """
    if text == "auto":
        return "auto"
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?", text) or not SHORTEST_S <= float(text) <= LONGEST_S:
        raise InvalidOptionError(
            f"segment_s must be auto, or a number of seconds from {SHORTEST_S:g} to {LONGEST_S:g}."
        )
    return float(text)
