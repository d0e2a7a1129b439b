"""Servers to measure: started as processes of their own, watched until they answer, ended afterwards."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Server:
    """A server that is ready to answer."""

    port: int
    pid: int
    ready_s: float
    """from the start of the process."""

    def forget_peak_memory(self) -> None:
        """Let the next peak be that of what follows."""
        for pid in family(self.pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # ended in the meantime
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_memory_mib(self) -> float:
        """Largest resident memory since then of the server's process and of those it started, added up."""
        return sum(memory_kib(pid, "VmHWM") for pid in family(self.pid)) / 1024

    def memory_mib(self) -> float:
        """The same, resident now."""
        return sum(memory_kib(pid, "VmRSS") for pid in family(self.pid)) / 1024


def serve_command(bundle: Path, port: int, data: Path, *further: str, keeps_clips: bool = False) -> list[str]:
    """`ahse serve` with this interpreter.

    Unless it keeps clips, one that it has seen is decoded again.
    """
    words = [
        *(() if keeps_clips else ("env", "AHSE_CLIP_CACHE_BYTES=0")),
        sys.executable,
        "-m",
        "service.cli",
        "serve",
        "--bundle",
        bundle,
        "--port",
        port,
    ]
    return [*map(str, words), "--data-dir", str(data), *further]


@contextmanager
def running(
    command: Sequence[str], port: int, log: int | IO[bytes] = subprocess.DEVNULL, *, n_workers: int = 1
) -> Iterator[Server]:
    """The server of a command, once it says that it is ready.

    Args:
        command: What to run.
        port: Where it will listen.
        log: Takes what it writes to standard error.
        n_workers: Processes that must answer.

    Raises:
        SystemExit: It did not start.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stderr=log) as process:  # noqa: S603  (our own arguments)
        try:
            while not (is_ready(port) and (n_workers == 1 or _n_up(port) == n_workers)):
                if process.poll() is not None or time.perf_counter() - started > _PATIENCE_S:
                    raise SystemExit(f"the server did not start; to see why, run: {' '.join(command)}")
                time.sleep(0.005)
            yield Server(port, process.pid, time.perf_counter() - started)
        finally:
            process.terminate()


def is_ready(port: int) -> bool:
    """Whether a service answers that all its parts work."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def _n_up(port: int) -> int:
    """Workers of a service that answer the others."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/metrics")
        figures = connection.getresponse().read().decode()
    return len(re.findall(r"^ahse_worker_up{.*} 1", figures, re.MULTILINE))


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):  # ended in the meantime
                found += map(int, children.read_text().split())
    return found


def memory_kib(pid: int, what: str) -> int:
    """A line of the kernel's account of a process, such as VmRSS; 0 for one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(what)), 0)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
