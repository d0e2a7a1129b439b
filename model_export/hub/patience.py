"""Asking the hub again while it is busy or out of order, after the pause that it asks for.

huggingface_hub (2.4) can do that too (`retry_on_errors`), but tries as often to reach a hub that is not
there: a machine without a network would hear of it after 23 seconds. And it waits as long as the hub says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]

T = TypeVar("T")

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of trouble that may be over soon."""

_PAUSES_S = (1.0, 2.0, 4.0)
# Whoever is told to wait longer than this hears so, rather than wait in front of a still screen.
_LONGEST_S = 60.0


def patiently(ask: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Ask, and again up to three times after trouble that may be over soon.

    Args:
        ask: one request of huggingface_hub.
        sleep: waits for some seconds.

    Raises:
        HfHubHTTPError: other trouble, still the same, or the hub wants to be left alone for over a minute.
    """
    for pause_s in _PAUSES_S:
        try:
            return ask()
        except HfHubHTTPError as error:
            pause_s = max(pause_s, asked_pause_s(error))
            if error.response.status_code not in PASSING or pause_s > _LONGEST_S:
                raise
            sleep(pause_s)
    return ask()


def asked_pause_s(error: HfHubHTTPError) -> float:
    """Seconds for which the hub wants to be left alone; 0 where it does not say."""
    headers = error.response.headers
    said = headers.get("Retry-After", "")
    limit = parse_ratelimit_headers(headers)
    if said.isdigit():
        return float(said)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else 0.0
