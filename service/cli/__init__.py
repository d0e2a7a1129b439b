"""The command line `ahse`."""

from __future__ import annotations

import atexit
import signal

from service.cli.interrupts import INTERRUPTED, exiting_at_once


def main() -> None:
    """Run the command line. Ctrl-C ends it with exit code 130 at any moment, and without a traceback."""
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # in place of an error while Python ends
    with exiting_at_once():
        from service.cli.commands import app
    try:
        app(prog_name="ahse")
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


__all__ = ["main"]
