"""Run two encoders at once: a clip's picture and sound, or a name's text for both."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

First = TypeVar("First")
Second = TypeVar("Second")


def both(first: Callable[[], First], second: Callable[[], Second]) -> tuple[First, Second]:
    """Results of both, the second worked out in a thread beside this one and in the same context.

    Returns when both have ended; if both fail, the first one's error is raised.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="encode") as beside:
        other = beside.submit(contextvars.copy_context().run, second)
        return first(), other.result()
