"""Servers that tests start, in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The first start of Label Studio fills its database, which takes a minute or two.
_PATIENCE_S = 300.0


@contextmanager
def started(command: str, port: int, log: Path, env: Mapping[str, str]) -> Iterator[None]:
    """A server, once it takes connections.

    Args:
        command: For the shell, in the root of the repository.
        port: Where it will listen.
        log: What it writes.
        env: Variables beside those of the tests.
    """
    with log.open("wb") as out:
        # A session of its own, so that what the shell starts ends with it.
        process = subprocess.Popen(  # noqa: S603  (commands of our READMEs)
            ["/bin/sh", "-c", command],
            env=os.environ | env,
            stdout=out,
            stderr=out,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            ends = time.monotonic() + _PATIENCE_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > ends:
                    pytest.fail(f"{command}\ndid not start:\n{log.read_text()[-3000:]}")
                time.sleep(0.1)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0
