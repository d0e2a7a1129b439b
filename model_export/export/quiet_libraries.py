"""Silence for libraries that log and warn while they are imported, build models and export them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Hide warnings and log records below an error inside the `with` block.

    open_clip, transformers, torch and onnxscript report much about their own code; what matters here is
    checked and raised. Some libraries also configure the root logger when they are imported, as onnxruntime's
    quantiser does with `logging.basicConfig`: handlers and level are put back at the end, so that the command
    line's own logging stays as it was.

    Threads that run at the same time are silenced too; exports run in one thread.
    """
    root = logging.root
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
