"""`ahse serve` as a process of its own, for tests over real HTTP."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

COMMAND = [sys.executable, "-m", "service.cli", "serve"]


@contextmanager
def serving(
    bundle: Path,
    data: Path,
    *flags: str,
    log: list[str] | None = None,
    variables: dict[str, str] | None = None,
    verify: ssl.SSLContext | bool = True,
) -> Iterator[httpx2.Client]:
    """A server on a free port, which it says in its log; stopped as a container engine stops it.

    Args:
        bundle: that it serves.
        data: its folder.
        flags: further ones.
        log: gets the lines of its log up to the address.
        variables: of its environment.
        verify: certificates to trust.
    """
    lines = [] if log is None else log
    with subprocess.Popen(  # noqa: S603  (our own interpreter and code)
        [*COMMAND, "--bundle", str(bundle), "--port", "0", "--data-dir", str(data), *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_COLOR": "1"} | (variables or {}),
    ) as process:
        assert process.stderr is not None
        address = None
        for line in process.stderr:
            lines.append(line)
            if address := re.search(r"https?://[\d.]+:\d+", line):
                break
        assert address is not None, lines
        rest: list[str] = []
        # Read all the time: a full pipe would stop the server at its next line.
        reader = threading.Thread(target=rest.extend, args=(process.stderr,))
        reader.start()
        try:
            with httpx2.Client(base_url=address.group(), timeout=60, verify=verify) as client:
                yield client
        finally:
            process.send_signal(signal.SIGTERM)
            reader.join()
            assert process.wait(60) in (0, -signal.SIGTERM), rest
            assert "Traceback" not in "".join(rest)
