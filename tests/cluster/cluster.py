"""PostgreSQL, three replicas of the service, and HAProxy with the configuration that we document."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.servers import free_port, is_ready, serve_command
from tests.cluster.ray_cluster import processes_of
from tests.service.postgres.server import Server, serving_postgres, why_absent

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
PATIENCE_S = 60.0
NAMES = ("one", "two", "three")
MAX_CONCURRENCY, MAX_WAITING = 8, 4
"""Clips of each replica; further ones are answered 429."""


def why_no_cluster() -> str | None:
    """What is missing for a cluster here; None: nothing."""
    if shutil.which("haproxy") is None:
        return "there is no HAProxy (Debian: apt-get install haproxy)"
    return why_absent()


def wait_until(happened: Callable[[], bool], what: str) -> None:
    """Wait for something that other processes do.

    Raises:
        AssertionError: It took too long.
    """
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Replica:
    """One replica, with a data directory of its own.

    Args:
        name: As HAProxy knows it.
        command: What starts it.
        port: Where it listens.
        url: Of the database.
        log: File for what it writes.
    """

    def __init__(self, name: str, command: list[str], port: int, url: str, log: Path) -> None:
        self.name, self.port = name, port
        settings = [f"AHSE_STORE={url}", "AHSE_DECODE_WORKERS=1"]
        settings += [f"AHSE_MAX_CONCURRENCY={MAX_CONCURRENCY}", f"AHSE_MAX_WAITING={MAX_WAITING}"]
        self._command = ["env", *settings, *command]
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log)  # noqa: S603  (our own arguments)
        wait_until(lambda: is_ready(self.port), f"{self.name} is not ready")

    def decoders(self) -> list[int]:
        """Its decoding processes."""
        assert self._process is not None
        return processes_of(self._process.pid, "service.decode.worker")

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and wait for the end; the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(PATIENCE_S)


class Balancer:
    """HAProxy.

    Args:
        folder: For its configuration and its socket.
        replicas: What stands behind it.
    """

    def __init__(self, folder: Path, replicas: list[Replica]) -> None:
        self.port, self._socket = free_port(), folder / "haproxy.sock"
        text = CONFIGURATION.read_text()
        changes = [("bind :8000", f"bind 127.0.0.1:{self.port}"), ("/run/haproxy/ahse.sock", self._socket)]
        changes += [
            (rf"server {one.name} [\d.:]+", f"server {one.name} 127.0.0.1:{one.port}") for one in replicas
        ]
        for pattern, place in changes:
            text, n = re.subn(pattern, str(place), text)
            assert n, pattern
        self._file = folder / "haproxy.cfg"
        self._file.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until all replicas are up."""
        command = ["haproxy", "-db", "-f", str(self._file)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
        wait_until(self._socket.exists, "HAProxy did not start")
        for name in NAMES:
            self.wait_for(name, "UP")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def drain(self, name: str) -> None:
        """Give a replica no more requests, and wait for those that it has."""
        self._ask(f"set server replicas/{name} state drain")
        wait_until(lambda: self._stat(name)["scur"] == "0", f"{name} still has requests")

    def use(self, name: str) -> None:
        """Give a replica requests again."""
        self._ask(f"set server replicas/{name} state ready")
        self.wait_for(name, "UP")

    def wait_for(self, name: str, status: str) -> None:
        """Wait until the checks of a replica say so."""
        wait_until(lambda: self._stat(name)["status"] == status, f"{name} is not {status}")

    def _stat(self, name: str) -> dict[str, str]:
        head, *rows = self._ask("show stat").lstrip("# ").strip().splitlines()
        found = (dict(zip(head.split(","), row.split(","), strict=True)) for row in rows)
        return next(one for one in found if one["pxname"] == "replicas" and one["svname"] == name)

    def _ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: connection.recv(2**16), b"")).decode()


class Cluster:
    """All of it, running.

    Attributes:
        postgres: The database server.
        url: Of the database that the replicas share.
        replicas: By name.
        balancer: What clients ask.
    """

    def __init__(self, postgres: Server, folder: Path, bundle: Path) -> None:
        from service.postgres.upgrade import upgrade

        self.postgres = postgres
        self.url = postgres.url(postgres.new_database())
        upgrade(self.url)
        self.replicas: dict[str, Replica] = {}
        for name in NAMES:
            port = free_port()
            command = serve_command(bundle, port, folder / name)
            self.replicas[name] = Replica(name, command, port, self.url, folder / f"{name}.log")
        self.balancer = Balancer(folder, list(self.replicas.values()))

    def end_connections(self) -> int:
        """Kill every connection to the database; how many there were."""
        import psycopg

        with psycopg.connect(self.postgres.url("postgres")) as connection:
            row = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchone()
        assert row is not None
        return int(row[0])


@contextmanager
def running_cluster(folder: Path, bundle: Path) -> Iterator[Cluster]:
    """A cluster of its own; nothing of it is left afterwards."""
    with ExitStack() as stack:
        cluster = Cluster(stack.enter_context(serving_postgres()), folder, bundle)
        for replica in cluster.replicas.values():
            stack.callback(replica.end, signal.SIGKILL)
            replica.start()
        stack.callback(cluster.balancer.stop)
        cluster.balancer.start()
        yield cluster
