"""Several server processes behind one port, started again when they end."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from ctypes import c_bool
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import structlog

from service.api.siblings import Worker
from service.cli.command_app import errors_in_words
from service.cli.server import GRACE_S, run_server
from service.errors import SettingsError
from service.log import configure_logging
from service.settings import Settings

_log = structlog.get_logger(__name__)
_SPAWN = get_context("spawn")
# A worker that ends before it served is started again after a pause, which doubles each time.
_PAUSE_S, _MAX_PAUSE_S = 1.0, 60.0
# Of the folder of their sockets, whose paths may have 107 bytes.
_MAX_PATH = 100
# What follows the end of the last request: decoders, stores and queues are closed.
_CLOSING_S = 10.0
_GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


def run_workers(settings: Settings, sockets: list[socket.socket]) -> int:
    """Serve with as many processes as the settings ask for, until SIGTERM or Ctrl-C.

    The first one is started alone, so that what keeps the service from starting is told once.

    Args:
        settings: Of the deployment.
        sockets: Bound, and not listened on yet.

    Returns:
        The exit code: that of the first worker if it could not start, else 0.
    """
    configure_logging(settings.log_format, settings.log_level)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ahse-workers-")))
        if len(bytes(folder)) > _MAX_PATH:
            raise SettingsError(
                "the path of the temporary directory is too long; set TMPDIR to a shorter one"
            )
        woken = stack.enter_context(_woken_by_signals())
        return _Supervisor(settings, sockets, folder, woken).run()


@contextmanager
def _woken_by_signals() -> Iterator[socket.socket]:
    """What can be read from once SIGTERM, SIGINT or SIGHUP has come; a byte for each."""
    reader, writer = socket.socketpair()
    with reader, writer:
        before = {
            number: signal.signal(number, lambda *_: writer.send(b"x"))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            yield reader
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@dataclass
class _Place:
    """A worker's place, with the process that has it now.

    Attributes:
        number: Of the worker.
        process: Its process; None: not started yet, or between two.
        ready: Gets one message when the process serves.
        is_ready: Whether it came.
        start_at: When to start the next process, on the monotonic clock.
        pause_s: How long to wait if that one does not serve.
    """

    number: int
    process: SpawnProcess | None = None
    ready: Connection | None = None
    is_ready: bool = False
    start_at: float = 0.0
    pause_s: float = field(default=_PAUSE_S)


class _Supervisor:
    def __init__(
        self, settings: Settings, sockets: list[socket.socket], folder: Path, woken: socket.socket
    ) -> None:
        self._settings, self._sockets, self._woken = settings, sockets, woken
        key = secrets.token_hex()
        seen_key = _SPAWN.RawValue(c_bool)  # without a lock, which a worker that is killed could keep
        self._workers = [
            Worker(number, settings.workers, folder, key, seen_key) for number in range(settings.workers)
        ]
        self._places = [_Place(0)]

    def run(self) -> int:
        try:
            return self._keep_running()
        finally:
            self._stop()

    def _keep_running(self) -> int:
        while True:
            for place in self._places:
                if place.process is None and place.start_at <= time.monotonic():
                    self._start(place)
            if self._wait():
                self._woken.recv(1)
                return 0
            for place in self._places:
                self._note_ready(place)
                if (process := place.process) is not None and (code := process.exitcode) is not None:
                    if len(self._places) == 1:  # the first, which never served
                        return code
                    process.close()
                    self._note_end(place, exit_code=code)
            if len(self._places) == 1 and self._places[0].is_ready:
                self._places += [_Place(number) for number in range(1, self._settings.workers)]

    def _start(self, place: _Place) -> None:
        reader, writer = _SPAWN.Pipe(duplex=False)
        place.is_ready = False
        process = _SPAWN.Process(
            target=_serve, args=(self._settings, self._sockets, self._workers[place.number], writer)
        )
        try:
            process.start()
        except OSError as error:  # no memory or no process to be had just now
            reader.close()
            self._note_end(place, error=error.strerror)
        else:
            place.process, place.ready = process, reader
        finally:
            writer.close()

    def _wait(self) -> bool:
        """Wait for something to happen; whether the service is to end."""
        waiting: list[object] = [self._woken]
        for place in self._places:
            if place.process is not None:
                waiting.append(place.process.sentinel)
            if place.ready is not None:
                waiting.append(place.ready)
        starts = [place.start_at for place in self._places if place.process is None]
        timeout_s = max(0.0, min(starts) - time.monotonic()) if starts else None
        return self._woken in connection.wait(waiting, timeout_s)  # type: ignore[arg-type]

    def _note_ready(self, place: _Place) -> None:
        if place.ready is not None and place.ready.poll():
            try:
                place.ready.recv()
                place.is_ready, place.pause_s = True, _PAUSE_S
            except EOFError:  # it ended before
                pass
            place.ready.close()
            place.ready = None

    def _note_end(self, place: _Place, **why: object) -> None:
        pause_s = 0.0 if place.is_ready else place.pause_s
        _log.error("worker_ended", worker=place.number, started_again_in_s=pause_s, **why)
        place.process = None
        place.start_at = time.monotonic() + pause_s
        place.pause_s = min(place.pause_s + pause_s, _MAX_PAUSE_S)

    def _stop(self) -> None:
        """Let requests finish; a second signal ends all at once."""
        for one in self._sockets:  # connections are refused from now on
            one.close()
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE_S + _CLOSING_S
        while alive := [process.sentinel for process in running if process.is_alive()]:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._woken in connection.wait([self._woken, *alive], left_s):
                break
        for process in running:
            process.kill()
            process.join()


def _serve(settings: Settings, sockets: list[socket.socket], worker: Worker, is_serving: Connection) -> None:
    """What a worker's process does."""
    started = time.perf_counter()
    # Ctrl-C reaches all processes of a terminal. While this one starts it is left to the supervisor.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    if settings.device != "cpu" and (gpus := find_gpus(os.environ, Path("/dev"))):
        # Before onnxruntime is imported: a process sees one GPU, and takes it for the first.
        os.environ[_GPU_VARIABLE] = gpus[worker.number % len(gpus)]
    with errors_in_words():
        run_server(settings, sockets, started, worker, lambda: is_serving.send(None))


def _end_with_supervisor() -> None:
    """End as SIGTERM does when the supervisor is gone, which nobody else would notice."""
    if (supervisor := parent_process()) is not None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)


def find_gpus(variables: Mapping[str, str], devices: Path) -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    if (listed := variables.get(_GPU_VARIABLE)) is not None:
        return [one for one in listed.split(",") if one]
    # Not by the numbers of devices: a container may have only the third, which is then CUDA's first.
    n_devices = sum(re.fullmatch(r"nvidia\d+", one.name) is not None for one in devices.glob("nvidia*"))
    return [str(number) for number in range(n_devices)]
