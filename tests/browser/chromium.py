"""A Chromium and a service for it to look at."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = (
    # Its own requests, which would hide those of the page.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A camera that shows a clock and a microphone that beeps, without a question.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    # Its sandbox does not start for root; it loads nothing but the service's own pages.
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@contextmanager
def serving(data: Path, *bundles: Path, **variables: str) -> Iterator[str]:
    """`ahse serve` on a free port: the address of its page.

    Args:
        data: Its data directory.
        bundles: What it serves.
        variables: Further ones of its environment.
    """
    named = [word for bundle in bundles for word in ("--bundle", str(bundle))]
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--data-dir", str(data), *named]
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"} | variables
    ) as process:
        if process.stderr is None:
            raise RuntimeError("no log")
        log = []
        for line in process.stderr:
            log.append(line)
            if address := re.search(r"http://[\d.]+:\d+", line):
                break
        else:
            raise RuntimeError("".join(log))
        # Read on, or the service waits for room in its log once that is full.
        reader = threading.Thread(target=log.extend, args=(process.stderr,))
        reader.start()
        try:
            yield f"{address.group()}/"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            reader.join()
