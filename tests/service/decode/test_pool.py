"""Decoding in child processes: the same result, and whatever happens to a child costs one clip only."""

import contextvars
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.cancellation import CancellationToken, WorkCancelled
from service.decode import DecodePool, decode_clip, messages, wire
from service.errors import (
    ClipTooLargeError,
    ClipUnavailableError,
    DecodeCrashedError,
    DecoderUnavailableError,
    DecodeTimeoutError,
    EmptyFileError,
    NotMediaError,
)
from service.media import ClipSound, DecodeLimits, DecodeSpec
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
    asked = replace(spec, frames="key")
    here, there = decode_clip(path, asked, LIMITS), pool.decode(path, asked)
    for name in ("frames", "frame_times_s", "waveform"):
        ours, theirs = getattr(here, name), getattr(there, name)
        np.testing.assert_array_equal(theirs, ours)
        assert theirs.dtype == ours.dtype
    for name in ("duration_s", "visual", "audio", "warnings", "n_frames_decoded", "at_key_frames"):
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


def test_a_process_that_stands_still_is_killed_without_blaming_the_clip(
    make_clip: Make, spec: DecodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has used no processor time: the machine or a disk is slow. The next clip works."""
    path = make_clip(ticks=range(3))
    with DecodePool(LIMITS, n_workers=1) as pool:
        pool.decode(path, spec)
        os.kill(_process(pool).pid, signal.SIGSTOP)
        with monkeypatch.context() as impatient:
            impatient.setattr("service.decode.pool._WALL_SHARE", 0.01)
            with pytest.raises(DecoderUnavailableError, match="stood still"):
                pool.decode(path, spec)
        assert pool.decode(path, spec).frames is not None


def test_time_in_which_the_service_itself_is_stopped_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a scheduler: a wait that took an hour counts as the 20 seconds that it was meant to take."""
    worker = DecodePool(LIMITS, n_workers=1)._workers[0]
    monkeypatch.setattr(worker, "_processor_s", lambda: 3.0)
    with monkeypatch.context() as clock:
        times_s = iter([0.0, 0.0, 3600.0, 3620.0, 3640.0, 3660.0, 3680.0])
        clock.setattr("service.decode.pool.time.monotonic", lambda: next(times_s))
        patience = worker._patience(20.0, n_threads=1)
        waits_s = [patience() for _ in range(5)]
        with pytest.raises(TimeoutError):
            patience()
    assert waits_s == [20.0] * 5


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


def test_threads_use_up_processor_time_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the process of a lone clip is looked at sooner, and not only when it has come to its own limit."""
    used = iter([3.0, 3.0, 13.0, 22.9, 23.0])
    monkeypatch.setattr("service.decode.pool._Worker._processor_s", lambda _: next(used))
    patience = DecodePool(LIMITS, n_workers=4)._workers[0]._patience(20.0, n_threads=4)
    assert [patience() for _ in range(3)] == pytest.approx([5.0, 2.5, 0.1])
    with pytest.raises(TimeoutError):
        patience()


def test_a_process_that_ends_at_its_own_time_limit_is_a_time_out(
    make_clip: Make, spec: DecodeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads may come to it before the service looks; the clip is not decoded once more."""
    path = make_clip(ticks=range(3))
    with DecodePool(LIMITS, n_workers=2) as pool:
        pool.decode(path, spec)
        _ending(pool, [signal.SIGXCPU], monkeypatch)
        with pytest.raises(DecodeTimeoutError, match="20 seconds"):
            pool.decode(path, spec)
        assert pool.decode(path, spec).frames is not None


def test_processor_time_is_what_the_kernel_accounts_for(make_clip: Make, spec: DecodeSpec) -> None:
    """Of all threads, and 0 once the process has ended; the oracle counts in ticks, rounded down twice."""
    with DecodePool(LIMITS, n_workers=1) as pool:
        pool.decode(make_clip(ticks=range(30)), spec)
        (worker,) = pool._workers
        fields = Path(f"/proc/{_process(pool).pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        assert 0 <= worker._processor_s() * os.sysconf("SC_CLK_TCK") - ticks < 3
        assert ticks > 0
        worker.kill()
        _process(pool).wait(60)
        assert worker._processor_s() == 0.0


def test_a_process_keeps_nothing_of_earlier_clips(make_clip: Make, spec: DecodeSpec) -> None:
    """Files and streams refer to each other, and held 11 MiB for each clip until the next collection."""
    path = make_clip(width=1280, height=720, ticks=range(10), audio="aac", audio_s=0.4)
    with DecodePool(LIMITS, n_workers=1) as pool:
        peaks_kib = []
        for _ in range(8):
            pool.decode(path, spec)
            status = Path(f"/proc/{_process(pool).pid}/status").read_text()
            peaks_kib.append(int(status.partition("VmHWM:")[2].split()[0]))
    assert peaks_kib[-1] - peaks_kib[0] < 20 * 1024


def test_the_sound_comes_before_the_frames(pool: DecodePool, make_clip: Make, spec: DecodeSpec) -> None:
    """It is that of the clip; without sound nothing comes."""
    for segment_s in (None, 1.0):
        heard: list[ClipSound] = []
        clip = pool.decode(make_clip(audio="aac"), replace(spec, segment_s=segment_s), heard.append)
        (sound,) = heard
        assert sound.waveform is clip.waveform
        assert sound.full_waveform is clip.full_waveform
    pool.decode(make_clip(name="mute.mp4"), spec, heard.append)
    assert len(heard) == 1


def test_an_answer_that_was_read_in_part_is_not_taken_for_the_next(make_clip: Make, spec: DecodeSpec) -> None:
    """No thread could be started for the sound."""

    def failing(_: ClipSound) -> None:
        raise RuntimeError("no thread")

    with DecodePool(LIMITS, n_workers=1) as pool:
        with pytest.raises(RuntimeError, match="no thread"):
            pool.decode(make_clip(audio="aac"), spec, failing)
        clip = pool.decode(make_clip(name="mute.mp4", ticks=range(3)), spec)
        assert (clip.waveform, round(clip.duration_s * 30)) == (None, 3)


def _ending(pool: DecodePool, causes: list[signal.Signals], monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process by a signal at the start of each of the next clips."""
    send = messages.send

    def end_and_send(sock: socket.socket, header: messages.Header) -> None:
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
    with DecodePool(limits, n_workers=1) as pool:
        with pytest.raises(ClipTooLargeError, match=r"memory\. Send"):
            pool.decode(path, spec)
        with pytest.raises(ClipTooLargeError, match=r"memory\. Ask for longer segments"):
            pool.decode(path, replace(spec, segment_s=1.0))


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
    with pytest.raises(ClipUnavailableError, match="can't be read now"):
        pool.decode(tmp_path / "gone.mp4", spec)
    assert [worker._process for worker in pool._workers] == before


def test_a_lone_clip_has_the_threads_of_all_processes(make_clip: Make, spec: DecodeSpec) -> None:
    """Those that come beside it have one each."""
    with DecodePool(LIMITS, n_workers=3) as pool:
        taken = [pool._take_idle() for _ in range(3)]
        assert [n_threads for _, n_threads in taken] == [3, 1, 1]
        for worker, n_threads in taken:
            pool._put_back(worker, n_threads)
        path = make_clip(gop=10)
        alone = pool.decode(path, spec)
    assert alone.frames is not None
    np.testing.assert_array_equal(alone.frames, decode_clip(path, spec, LIMITS).frames)


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
    """The child that decodes a lone clip."""
    process = pool._workers[-1]._process
    assert process is not None
    return process
