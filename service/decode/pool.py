"""Decoding in child processes that can be killed, so that a hostile clip fails alone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from service.cancellation import raise_if_cancelled, stopping
from service.decode import messages, wire
from service.decode.sandbox import Sandbox
from service.errors import (
    ClipUnavailableError,
    DecodeCrashedError,
    DecoderUnavailableError,
    DecodeTimeoutError,
    MediaError,
)
from service.media import Clip, DecodeLimits, DecodeSpec, OnSound, ignore_sound

_START_TIMEOUT_S = 60.0
# By the clock a clip may take this many times its processor time: a process may also wait for a disk.
_WALL_SHARE = 5
# Shortest time between two looks at the processor time of a clip.
_SHORTEST_WAIT_S = 0.1
# CPUCLOCK_SCHED of Linux: all that the threads of a process have used, in and for it.
_PROCESSOR_TIME = 2
# A process that closed its connection ends within this time.
_END_TIMEOUT_S = 1.0
_PACKAGE_ROOT = Path(__file__).parents[2]
# The whole environment of a decoding process: no secrets, and settings for few threads and arenas.
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH")
_ADDED_VARIABLES = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONPATH": str(_PACKAGE_ROOT)}


class DecodePool:
    """A fixed number of decoding processes. Thread-safe.

    A process starts when it is first needed, or with `start`, and is replaced after a crash or a timeout.
    There is no manager thread: a caller takes an idle process from the queue, talks to it and puts it back.

    Args:
        limits: Limits on the cost of each clip.
        n_workers: Number of clips that are decoded at once, and of threads for a lone one.
        on_first_ready: Called once, when the first process is ready, with what restricts it and all others.
        niceness: How far the processes stand behind others for processor time: 0 to 19.
    """

    def __init__(
        self,
        limits: DecodeLimits,
        n_workers: int,
        on_first_ready: Callable[[Sandbox], None] = lambda _: None,
        niceness: int = 0,
    ) -> None:
        self._limits = limits
        self._on_first_ready = on_first_ready
        self._first_ready = threading.Lock()
        self._workers = [_Worker(self._report, niceness) for _ in range(n_workers)]
        # Guarded by the condition. Last in, first out: the last one used has warm caches, and those that are
        # not needed never start.
        self._idle = list(self._workers)
        self._n_threads_left = n_workers
        self._changed = threading.Condition()
        self._is_closed = False

    @property
    def n_workers(self) -> int:
        """Number of clips that are decoded at once."""
        return len(self._workers)

    def start(self) -> None:
        """Start all processes without waiting until they are ready. Call this before the first clip."""
        for worker in self._idle:
            worker.start()

    def decode(self, path: Path, spec: DecodeSpec, on_sound: OnSound = ignore_sound) -> Clip:
        """Wait for an idle process and decode one clip in it.

        Args:
            path: The file, which must exist until this returns.
            spec: What the model needs.
            on_sound: Called with the sound, if there is any, before the frames are there; again with the same
                if a process had to be replaced.

        Raises:
            MediaError: The clip can't be used, took too much processor time, or crashed its process.
            ClipUnavailableError: Its file can't be opened now.
            DecoderUnavailableError: No process can be started, two were killed from outside, or one stood
                still.
            WorkCancelled: The request was cancelled; a process that was decoding for it was killed.
        """
        worker, n_threads = self._take_idle()
        try:
            try:
                return worker.decode(path, spec, self._limits, on_sound, n_threads)
            except _ProcessDiedError:
                raise_if_cancelled("decode")
                if self._is_closed:
                    raise
                # It may have been ended for something else, such as memory that the whole machine lacks.
                return worker.decode(path, spec, self._limits, on_sound, n_threads)
        except _ProcessDiedError as error:
            raise_if_cancelled("decode")
            raise _blame(error) from error
        finally:
            self._put_back(worker, n_threads)

    def close(self) -> None:
        """End all processes. Clips that are being decoded fail, and later ones are rejected."""
        self._is_closed = True
        # First kill the processes, also busy ones, without touching their sockets: a thread that waits for an
        # answer then sees the connection end and puts its worker back. Then all are idle.
        for worker in self._workers:
            worker.kill()
        with self._changed:
            self._changed.notify_all()  # callers that are queued in `decode` see that the pool is closed
            self._changed.wait_for(lambda: len(self._idle) == len(self._workers))
            for worker in self._workers:
                worker.stop()

    def _report(self, sandbox: Sandbox) -> None:
        if self._first_ready.acquire(blocking=False):  # and never released
            self._on_first_ready(sandbox)

    def _take_idle(self) -> tuple[_Worker, int]:
        """Wait for an idle process, and take the threads that no other uses, at least one.

        Raises:
            WorkCancelled: The request was cancelled meanwhile.
            RuntimeError: The pool is closed.
        """
        with stopping(self._wake), self._changed:
            while not self._idle and not self._is_closed:
                raise_if_cancelled("decode")
                self._changed.wait()
            raise_if_cancelled("decode")
            if self._is_closed:
                raise RuntimeError("the decode pool is closed")
            n_threads = max(1, self._n_threads_left)
            self._n_threads_left -= n_threads
            return self._idle.pop(), n_threads

    def _put_back(self, worker: _Worker, n_threads: int) -> None:
        with self._changed:
            self._idle.append(worker)
            self._n_threads_left += n_threads
            # One is enough: a cancelled waiter wakes all others, and so does `close` before it waits itself.
            self._changed.notify()

    def _wake(self) -> None:
        """Let all that wait look again whether they still have to."""
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _ProcessDiedError(Exception):
    """A decoding process ended, or broke the protocol, while it decoded a clip."""

    def __init__(self, *, was_killed: bool) -> None:
        super().__init__(was_killed)
        self.was_killed = was_killed


def _blame(error: _ProcessDiedError) -> DecodeCrashedError | DecoderUnavailableError:
    """The error for the client. No clip sends SIGKILL: the system did, short of memory, or an operator."""
    if error.was_killed:
        return DecoderUnavailableError("The decoding process was killed by the system; try again later.")
    return DecodeCrashedError("The clip could not be decoded: it brought its decoder down.")


class _ProcessorTimeUpError(TimeoutError):
    """A decoding process has used up the processor time of its clip, which is the fault of the clip."""


def _timed_out(limits: DecodeLimits) -> DecodeTimeoutError:
    return DecodeTimeoutError(
        f"Decoding took over {limits.processor_time_s:g} seconds. Send a shorter or smaller clip."
    )


def open_clip(path: Path) -> FileIO:
    """Open a clip, without a buffer, for a decoding process, which can't do that itself (sandbox).

    Raises:
        ClipUnavailableError: It can't be opened now.
    """
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise ClipUnavailableError from error


class _Worker:
    """One decoding process and the connection to it. Used by one thread at a time, except for `kill`.

    Args:
        on_ready: Called with what restricts the process, when it is ready.
        niceness: Of the process.
    """

    def __init__(self, on_ready: Callable[[Sandbox], None], niceness: int) -> None:
        self._on_ready = on_ready
        self._niceness = niceness
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_ready = False

    def start(self) -> None:
        """Start the process if it is not running."""
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        ours, theirs = socket.socketpair()
        messages.bound_sending(ours, _START_TIMEOUT_S)
        descriptor = theirs.fileno()
        with theirs:
            # A fresh interpreter, not a fork: it inherits no memory, files or secrets of the service.
            self._process = subprocess.Popen(  # noqa: S603 - fixed arguments
                [sys.executable, "-P", "-m", "service.decode.worker", str(descriptor)],
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ} | _ADDED_VARIABLES,
                start_new_session=True,
            )
        if self._niceness:
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, min(19, own + self._niceness))
        self._socket = ours
        self._is_ready = False

    def decode(
        self, path: Path, spec: DecodeSpec, limits: DecodeLimits, on_sound: OnSound, n_threads: int
    ) -> Clip:
        """Have the process decode one clip; kill it if it takes too long or breaks the protocol."""
        with open_clip(path) as file:
            return self._decode(file, spec, limits, on_sound, n_threads)

    def _decode(
        self, file: BinaryIO, spec: DecodeSpec, limits: DecodeLimits, on_sound: OnSound, n_threads: int
    ) -> Clip:
        sock = self._connect()
        try:
            # Killed by a cancelled request, since a library in the middle of a frame can't be asked to stop.
            with stopping(self.kill):
                wire.send_request(sock, file, spec, limits, n_threads)
                patience = self._patience(limits.processor_time_s, n_threads)
                return wire.receive_clip(sock, spec, limits, patience, on_sound)
        except TimeoutError as error:
            # The process might still answer, and its answer would be taken for that of the next clip.
            self.stop()
            if isinstance(error, _ProcessorTimeUpError):
                raise _timed_out(limits) from None
            raise DecoderUnavailableError(
                "Decoding stood still: the machine is too busy, or the clip's disk does not answer. "
                "Try again later."
            ) from error
        except (EOFError, OSError, ValueError) as error:
            code = self._exit_code()
            self.stop()
            if code == -signal.SIGXCPU:  # at its own limit (worker), before anybody looked
                raise _timed_out(limits) from None
            raise _ProcessDiedError(was_killed=code == -signal.SIGKILL) from error
        except MediaError:  # a whole answer
            raise
        except BaseException:
            # Such as a thread that can't be started for the sound. What is left of the answer is not read.
            self.stop()
            raise

    def _patience(self, limit_s: float, n_threads: int) -> messages.Patience:
        """Patience for so much processor time, which does not depend on what else the machine does.

        So many threads use it up sooner than the clock says. By the clock a wait counts as no longer than it
        was meant to be: a job that was stopped and went on may find an answer that came meanwhile.
        """
        wall_left_s, before_s = _WALL_SHARE * limit_s, self._processor_s()
        asked_at_s, asked_s = time.monotonic(), 0.0

        def left_s() -> float:
            nonlocal wall_left_s, asked_at_s, asked_s
            if (left := limit_s - (self._processor_s() - before_s)) <= 0:
                raise _ProcessorTimeUpError
            now_s = time.monotonic()
            wall_left_s -= min(asked_s, now_s - asked_at_s)
            if wall_left_s <= 0:
                raise TimeoutError
            asked_at_s, asked_s = now_s, min(max(left / n_threads, _SHORTEST_WAIT_S), wall_left_s)
            return asked_s

        return left_s

    def _processor_s(self) -> float:
        """Processor time that the process has used so far."""
        if self._process is None:
            return 0.0
        try:
            # The clock of another process, as clock_getcpuclockid(3) makes it: one call, and no file is read.
            return time.clock_gettime(~self._process.pid << 3 | _PROCESSOR_TIME)
        except OSError:  # it has ended, which its connection tells
            return 0.0

    def _exit_code(self) -> int | None:
        """The code that the process has ended with, below 0 by a signal; None if it is still there."""
        try:
            return None if self._process is None else self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # it broke the protocol
            return None

    def kill(self) -> None:
        """Kill the process, if there is one. Safe to call while another thread waits for its answer."""
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
        """The connection to a process that is ready, which is started if necessary.

        Raises:
            DecoderUnavailableError: It can't be started, which is not the fault of the clip.
        """
        try:
            self.start()
            sock = self._socket
            if sock is None:
                raise EOFError
            if not self._is_ready:
                ready = messages.receive(sock, messages.within(_START_TIMEOUT_S))
                self._is_ready = True
                self._on_ready(Sandbox(**ready["sandbox"]))
        except (EOFError, OSError, ValueError) as error:
            self.stop()
            raise DecoderUnavailableError("No clip can be decoded now; try again later.") from error
        return sock
