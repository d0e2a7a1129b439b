"""Decoding in child processes that can be killed: a hostile clip costs that clip, not the service."""

import os
import queue
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from service.cancellation import drop_if_gone
from service.decode import wire
from service.errors import DecodeCrashedError, DecoderUnavailableError, DecodeTimeoutError
from service.media import Clip, DecodeLimits, DecodeSpec

_START_TIMEOUT_S = 60.0
_PACKAGE_ROOT = Path(__file__).parents[2]
# All that a decoding process gets of the environment: nothing secret, and few threads and arenas.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH")
_ADDED_VARIABLES = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONPATH": str(_PACKAGE_ROOT)}


class DecodePool:
    """A few decoding processes; `decode` may be called from any number of threads.

    A process starts when it is first needed, or with `start`, and is replaced after a crash or a timeout.
    There is no thread in between: a caller takes an idle process, talks to it and puts it back.

    Args:
        limits: What each clip may cost.
        n_workers: How many clips are decoded at once.
    """

    def __init__(self, limits: DecodeLimits, n_workers: int) -> None:
        self._limits = limits
        self._workers = [_Worker() for _ in range(n_workers)]
        # The last one used comes first: it is warm, and processes that are never needed never start.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._is_closed = False

    @property
    def n_workers(self) -> int:
        """How many clips are decoded at once."""
        return len(self._workers)

    def start(self) -> None:
        """Start all processes, without waiting until they are ready."""
        for worker in self._take_idle():
            worker.start()
            self._idle.put(worker)

    def decode(self, path: Path, spec: DecodeSpec) -> Clip:
        """Decode one clip; waits for an idle process first.

        Args:
            path: The file; it must stay there until this returns.
            spec: What the model wants.

        Raises:
            MediaError: When the clip cannot be used, takes too long or takes its process down.
            DecoderUnavailableError: When no process can be started.
            ClientGone: When the client left while the clip waited.
        """
        worker = self._idle.get()
        try:
            if self._is_closed:
                raise RuntimeError("the decode pool is closed")
            drop_if_gone("decode")
            return worker.decode(path, spec, self._limits)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End all processes. Clips that are being decoded fail, and later ones are refused."""
        self._is_closed = True
        for worker in self._workers:
            worker.kill()
        for worker in [self._idle.get() for _ in self._workers]:
            worker.stop()
            self._idle.put(worker)

    def _take_idle(self) -> list["_Worker"]:
        workers = []
        with suppress(queue.Empty):
            while True:
                workers.append(self._idle.get_nowait())
        return workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One decoding process and the connection to it; used by one thread at a time, but for `kill`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_ready = False

    def start(self) -> None:
        """Start the process if it is not running."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        ours, theirs = socket.socketpair()
        descriptor = theirs.fileno()
        with theirs:
            # A fresh interpreter, not a fork of the service: none of its memory, files, threads or secrets.
            self._process = subprocess.Popen(  # noqa: S603 - fixed arguments
                [sys.executable, "-P", "-m", "service.decode.worker", str(descriptor)],
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ} | _ADDED_VARIABLES,
                start_new_session=True,
            )
        self._socket = ours
        self._is_ready = False

    def decode(self, path: Path, spec: DecodeSpec, limits: DecodeLimits) -> Clip:
        """Have the process decode one clip; end it when it takes too long or stops answering."""
        sock = self._connect()
        try:
            wire.send(sock, wire.request(path, spec, limits))
            return wire.receive_clip(sock, spec, limits, time.monotonic() + limits.wall_time_s)
        except TimeoutError:
            self.stop()
            raise DecodeTimeoutError(
                f"Decoding took longer than {limits.wall_time_s:g} seconds. Send a shorter or smaller clip."
            ) from None
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise DecodeCrashedError("The clip could not be decoded: it brought its decoder down.") from error

    def kill(self) -> None:
        """Kill the process, if there is one; whoever waits for its answer then stops waiting."""
        process = self._process
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """Kill the process and forget it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._socket is not None:
            self._socket.close()
        self._process = self._socket = None

    def _connect(self) -> socket.socket:
        """The connection to a running process; that there is none is no fault of the clip."""
        try:
            self.start()
            sock = self._socket
            if sock is None:
                raise EOFError
            if not self._is_ready:
                wire.receive(sock, time.monotonic() + _START_TIMEOUT_S)
                self._is_ready = True
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise DecoderUnavailableError("No clip can be decoded now; try again later.") from error
        return sock
