"""Decoding in child processes: the same result, and whatever happens to a child costs one clip only."""

import contextvars
import json
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from service.cancellation import CancellationToken, WorkCancelled
from service.decode import DecodePool, decode_clip, wire
from service.errors import (
    ClipTooLargeError,
    DecodeCrashedError,
    DecoderUnavailableError,
    DecodeTimeoutError,
    EmptyFileError,
    NotMediaError,
)
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.conftest import Make
from tests.service.decode.test_hostile import gif_of

LIMITS = DecodeLimits(max_duration_s=60.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    """One pool for all tests: each must leave it working."""
    with DecodePool(LIMITS, n_workers=2) as pool:
        pool.start()
        yield pool


def test_a_clip_crosses_the_process_boundary_unchanged(
    pool: DecodePool, make_clip: Make, spec: DecodeSpec
) -> None:
    """Every field is equal on both sides."""
    path = make_clip(audio="aac")
    here, there = decode_clip(path, spec, LIMITS), pool.decode(path, spec)
    for name in ("frames", "frame_times_s", "waveform"):
        ours, theirs = getattr(here, name), getattr(there, name)
        np.testing.assert_array_equal(theirs, ours)
        assert theirs.dtype == ours.dtype
    for name in ("duration_s", "visual", "audio", "warnings", "n_frames_decoded"):
        assert getattr(there, name) == getattr(here, name)


def test_a_missing_track_crosses_the_process_boundary_as_none(
    pool: DecodePool, make_clip: Make, spec: DecodeSpec
) -> None:
    """Both for clips without audio and for audio files."""
    assert pool.decode(make_clip(), spec).waveform is None
    sound = pool.decode(make_clip(name="s.wav", codec=None, audio="pcm_s16le"), spec)
    assert sound.frames is None
    assert len(sound.frame_times_s) == 0


@pytest.mark.parametrize(("content", "error"), [(b"", EmptyFileError), (b"text", NotMediaError)])
def test_errors_keep_their_type_and_message_across_processes(
    content: bytes, error: type[Exception], pool: DecodePool, tmp_path: Path, spec: DecodeSpec
) -> None:
    """An error in the decoding process is raised alike in the service."""
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(error) as there:
        pool.decode(path, spec)
    with pytest.raises(error) as here:
        decode_clip(path, spec, LIMITS)
    assert str(there.value) == str(here.value)


def test_many_threads_share_few_processes(pool: DecodePool, make_clip: Make, spec: DecodeSpec) -> None:
    """Callers wait for an idle process, and each gets its own clip."""
    paths = [make_clip(name=f"{n}.mp4", ticks=range(n)) for n in (3, 6, 9, 12)]
    with ThreadPoolExecutor(8) as threads:
        clips = list(threads.map(lambda path: pool.decode(path, spec), paths * 4))
    assert [round(clip.duration_s * 30) for clip in clips] == [3, 6, 9, 12] * 4


def test_a_process_that_hangs_is_killed_at_the_time_limit(make_clip: Make, spec: DecodeSpec) -> None:
    """The clip fails and the next one works."""
    path = make_clip(ticks=range(3))
    with DecodePool(replace(LIMITS, processor_time_s=0.5), n_workers=1) as pool:
        pool.decode(path, spec)
        os.kill(_process(pool).pid, signal.SIGSTOP)
        with pytest.raises(DecodeTimeoutError, match=r"0\.5 seconds"):
            pool.decode(path, spec)
        assert pool.decode(path, spec).frames is not None


def test_the_time_limit_does_not_depend_on_what_else_the_machine_does(
    make_clip: Make, spec: DecodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor time counts: a clip that has used it up fails at once, whatever the clock says."""
    path = make_clip(ticks=range(3))
    with DecodePool(replace(LIMITS, processor_time_s=1000.0), n_workers=1) as pool:
        pool.decode(path, spec)
        used = iter([3.0, 3.0, 1003.1])
        monkeypatch.setattr("service.decode.pool._Worker._processor_s", lambda _: next(used))
        os.kill(_process(pool).pid, signal.SIGSTOP)
        monkeypatch.setattr("service.decode.pool._WALL_SHARE", 0.0005)
        with pytest.raises(DecodeTimeoutError, match="1000 seconds"):
            pool.decode(path, spec)


def _ending(pool: DecodePool, causes: list[signal.Signals], monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process by a signal at the start of each of the next clips."""
    send = wire.send

    def end_and_send(sock: socket.socket, header: wire.Header) -> None:
        if causes:
            process = _process(pool)
            process.send_signal(causes.pop(0))
            process.wait()
        send(sock, header)

    monkeypatch.setattr(wire, "send", end_and_send)


@pytest.mark.parametrize("cause", [signal.SIGKILL, signal.SIGSEGV])
def test_a_clip_whose_process_dies_once_is_decoded_by_the_next(
    make_clip: Make, spec: DecodeSpec, monkeypatch: pytest.MonkeyPatch, cause: signal.Signals
) -> None:
    """One death need not be the fault of the clip."""
    path = make_clip(ticks=range(3))
    with DecodePool(LIMITS, n_workers=1) as pool:
        pool.decode(path, spec)
        _ending(pool, [cause], monkeypatch)
        assert pool.decode(path, spec).frames is not None


@pytest.mark.parametrize(
    ("cause", "error"),
    [(signal.SIGSEGV, DecodeCrashedError), (signal.SIGKILL, DecoderUnavailableError)],
)
def test_a_clip_whose_process_dies_twice_fails_alone(
    make_clip: Make,
    spec: DecodeSpec,
    monkeypatch: pytest.MonkeyPatch,
    cause: signal.Signals,
    error: type[Exception],
) -> None:
    """A crash is the fault of the clip, a kill is not; the next clip has a new process."""
    path = make_clip(ticks=range(3))
    with DecodePool(LIMITS, n_workers=1) as pool:
        pool.decode(path, spec)
        _ending(pool, [cause, cause], monkeypatch)
        with pytest.raises(error):
            pool.decode(path, spec)
        assert pool.decode(path, spec).frames is not None


def test_a_process_that_died_while_idle_is_replaced(make_clip: Make, spec: DecodeSpec) -> None:
    """The next clip does not fail."""
    path = make_clip(ticks=range(3))
    with DecodePool(LIMITS, n_workers=1) as pool:
        pool.decode(path, spec)
        _process(pool).kill()
        _process(pool).wait()
        assert pool.decode(path, spec).frames is not None


def test_the_memory_of_a_process_is_limited(tmp_path: Path, spec: DecodeSpec) -> None:
    """Without the limit on pixels, the limit on address space stops a canvas of a gigabyte."""
    path = tmp_path / "bomb.gif"
    path.write_bytes(gif_of(16_000, 16_000))
    limits = replace(LIMITS, max_frame_pixels=2**31 - 1, memory_bytes=256 * 1024**2)
    with DecodePool(limits, n_workers=1) as pool, pytest.raises(ClipTooLargeError, match="memory"):
        pool.decode(path, spec)


def test_what_went_wrong_in_a_process_reaches_the_log_of_the_service(spec: DecodeSpec) -> None:
    """As the cause of the error, which is logged, and not as lines of its own between those of the log."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send_error(
            theirs, DecodeCrashedError("The clip could not be decoded."), "x" * 5000 + "IndexError: 7"
        )
        with pytest.raises(DecodeCrashedError) as caught:
            wire.receive_clip(ours, spec, LIMITS, wire.within(10))
    assert str(caught.value.__cause__).endswith("IndexError: 7")
    assert len(str(caught.value.__cause__)) == 2000


def test_an_inherited_limit_on_memory_is_kept(make_clip: Make, spec: DecodeSpec) -> None:
    """Under `ulimit -v` every clip was once called undecodable, since the limit was to be raised."""
    code = f"""
import resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
from service.decode import DecodePool
from service.media import DecodeLimits, DecodeSpec
with DecodePool(DecodeLimits(memory_bytes=16 * 2**30), n_workers=1) as pool:
    print(pool.decode(Path({str(make_clip(ticks=range(3)))!r}), {spec!r}).frames is not None)
"""
    done = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


def test_a_cancelled_request_stops_a_running_decode(make_clip: Make, spec: DecodeSpec) -> None:
    """Its process is killed, in the middle of whatever it does; the next clip gets a new one."""
    path, token = make_clip(), CancellationToken()
    with DecodePool(LIMITS, n_workers=1) as pool, ThreadPoolExecutor(1) as other:
        pool.decode(path, spec)
        stopped = _process(pool)
        os.kill(stopped.pid, signal.SIGSTOP)
        with token.active():
            running = other.submit(contextvars.copy_context().run, pool.decode, path, spec)
        while pool._idle:
            os.sched_yield()
        token.cancel("deadline")
        with pytest.raises(WorkCancelled):
            running.result(60)
        assert pool.decode(path, spec).n_frames_decoded
        assert _process(pool).pid != stopped.pid


def test_a_cancelled_request_does_not_wait_for_a_process(make_clip: Make, spec: DecodeSpec) -> None:
    """The only one hangs with a clip of somebody else."""
    path, token = make_clip(), CancellationToken()
    with ThreadPoolExecutor(2) as others:
        with DecodePool(LIMITS, n_workers=1) as pool:
            pool.decode(path, spec)
            os.kill(_process(pool).pid, signal.SIGSTOP)
            hanging = others.submit(pool.decode, path, spec)
            while pool._idle:
                os.sched_yield()
            with token.active():
                queued = others.submit(contextvars.copy_context().run, pool.decode, path, spec)
            token.cancel()
            with pytest.raises(WorkCancelled):
                queued.result(60)
        assert hanging.exception(60)


def test_a_file_that_is_gone_costs_no_process(pool: DecodePool, tmp_path: Path, spec: DecodeSpec) -> None:
    """The service opens it, not the process, which can't open anything."""
    before = [worker._process for worker in pool._workers]
    with pytest.raises(NotMediaError, match="can't be read"):
        pool.decode(tmp_path / "gone.mp4", spec)
    assert [worker._process for worker in pool._workers] == before


def test_a_closed_pool_rejects_clips(make_clip: Make, spec: DecodeSpec) -> None:
    """Otherwise it would start processes that nobody ends."""
    pool = DecodePool(LIMITS, n_workers=1)
    pool.start()
    process = _process(pool)
    pool.close()
    assert process.poll() is not None
    with pytest.raises(RuntimeError, match="closed"):
        pool.decode(make_clip(ticks=range(3)), spec)


def test_closing_the_pool_fails_clips_that_are_being_decoded(make_clip: Make, spec: DecodeSpec) -> None:
    """Neither the caller of the killed process nor the callers queued behind it hang."""
    path = make_clip(ticks=range(3))
    pool = DecodePool(LIMITS, n_workers=1)
    pool.decode(path, spec)
    os.kill(_process(pool).pid, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(pool.decode, path, spec) for _ in range(2)]
        pool.close()
    for future in waiting:
        assert isinstance(future.exception(), DecoderUnavailableError | RuntimeError)


_ANSWER: dict[str, Any] = {
    "has_frames": False,
    "n_samples": None,
    "n_full_samples": None,
    "frame_times_s": [],
    "duration_s": 1.0,
    "visual": {"used": False, "reason": "no_stream", "detail": ""},
    "audio": {"used": False, "reason": "no_stream", "detail": ""},
    "warnings": [],
    "n_frames_decoded": 0,
    "segments": [],
    "window_starts_s": [],
}
_SEGMENT = {
    "start_s": 0.0,
    "end_s": 1.0,
    "has_frames": False,
    "frame_times_s": [],
    "audio_samples": None,
    "visual": _ANSWER["visual"],
    "audio": _ANSWER["audio"],
}


@pytest.mark.parametrize(
    ("changes", "n_bytes"),
    [
        ({"n_samples": 10**9}, 0),
        ({"n_full_samples": 10**9}, 0),
        ({"n_samples": -1}, 0),
        ({"has_frames": True}, 100),
        ({"segments": [_SEGMENT]}, 0),
        ({"has_frames": "yes"}, 0),
        ({"duration_s": "long"}, 0),
        ({"duration_s": math.nan}, 0),
        ({"visual": {"used": 1}}, 0),
        ({"error": ["empty_file"], "message": None}, 0),
        ({"frame_times_s": [0.0] * 20}, 0),
        pytest.param({"warnings": ["x" * 100_001]}, 0, id="long warnings"),
    ],
    ids=str,
)
def test_an_answer_that_does_not_fit_the_request_is_rejected(
    changes: dict[str, Any], n_bytes: int, spec: DecodeSpec
) -> None:
    """A process that was taken over can make the service neither allocate memory nor stumble later."""
    answer = json.dumps(changes if "error" in changes else _ANSWER | changes).encode()
    with pytest.raises((EOFError, ValueError)):
        _receive(answer, n_bytes, spec)


@pytest.mark.parametrize(
    ("n_samples", "starts_s"), [(8, [0.0, 1.0]), (None, [0.0]), (16, [0.0]), (8, [-1.0])]
)
def test_windows_that_do_not_fit_their_samples_are_rejected(
    n_samples: int | None, starts_s: list[float], spec: DecodeSpec
) -> None:
    """One window of 8 samples, which starts within the clip, would."""
    small = replace(spec, sample_rate_hz=8, max_audio_s=1.0)
    good = _ANSWER | {"n_samples": 8, "window_starts_s": [0.0]}
    _receive(json.dumps(good).encode(), 32, small)
    bad = _ANSWER | {"n_samples": n_samples, "window_starts_s": starts_s}
    with pytest.raises(EOFError):
        _receive(json.dumps(bad).encode(), 64, small)


def test_a_segment_with_more_frames_than_asked_for_is_rejected(spec: DecodeSpec) -> None:
    """Their times are kept with the features of the clip."""
    asked = replace(spec, segment_s=1.0)
    for n_frames in (4, 5):
        segment = _SEGMENT | {"frame_times_s": [0.0] * n_frames}
        answer = json.dumps(_ANSWER | {"segments": [segment]}).encode()
        with pytest.raises(EOFError) if n_frames > asked.n_segment_frames else nullcontext():
            _receive(answer, 0, asked)


@pytest.mark.parametrize("answer", [b"3", b"[]", b"null", b'"clip"', b"[" * 100_000, b"\xff", b""])
def test_an_answer_that_is_no_object_is_rejected(answer: bytes, spec: DecodeSpec) -> None:
    """It was an error that nobody expected: the clip was answered 500."""
    with pytest.raises(ValidationError):
        _receive(answer, 0, spec)


def _receive(answer: bytes, n_bytes: int, spec: DecodeSpec) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(len(answer).to_bytes(4) + answer + bytes(n_bytes))
        wire.receive_clip(ours, spec, LIMITS, wire.within(60))


def test_a_header_of_unlimited_length_is_rejected() -> None:
    """The length of a header is limited."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"\xff\xff\xff\xff")
        with pytest.raises(EOFError):
            wire.receive(ours)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("service.decode.worker", ["torch", "onnxruntime", "fastapi", "pydantic", "model_export"]),
        ("service.decode.pool", ["torch", "onnxruntime", "fastapi", "pydantic", "model_export", "av"]),
    ],
)
def test_decoding_imports_no_heavy_packages(module: str, absent: list[str]) -> None:
    """A decoding process loads FFmpeg and numpy; the pool in the service does not even load FFmpeg."""
    script = f"import sys, {module}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


def _process(pool: DecodePool) -> subprocess.Popen[bytes]:
    """The child of a pool of one."""
    process = pool._workers[0]._process
    assert process is not None
    return process
