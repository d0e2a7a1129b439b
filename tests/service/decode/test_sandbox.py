"""What a decoding process can still do after it was taken over: decode clips, and nothing else."""

import ctypes
import errno
import json
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.api.app import _log_sandbox
from service.decode import DecodePool, messages, sandbox, wire
from service.decode.sandbox import Sandbox, enter_sandbox
from service.errors import DecodeCrashedError, MediaError
from service.media import DecodeLimits, DecodeSpec, ignore_sound
from tests.service.decode.conftest import Make
from tests.service.decode.taken_over import Goals
from tests.service.decode.test_hostile import SDP

ROOT = Path(__file__).parents[3]
STRACE = shutil.which("strace")
LIMITS = DecodeLimits(max_duration_s=60.0)
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
MACHINE = platform.machine()


def landlock_version() -> int:
    """What the kernel says, asked without the code under test."""
    if sys.platform != "linux":
        return 0
    return max(0, int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)))


def run(code: str) -> int:
    """The exit status of a child that runs code with `libc`."""
    code = f"import ctypes, sys; libc = ctypes.CDLL(None); sys.exit({code})"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], check=False).returncode  # noqa: S603


HAS_SECCOMP = Path("/proc/sys/kernel/seccomp/actions_avail").exists() and MACHINE in {"x86_64", "aarch64"}
LANDLOCK = landlock_version()
HAS_NETWORK_NAMESPACE = sys.platform == "linux" and run("libc.unshare(0x50000000) != 0") == 0

needs_seccomp = pytest.mark.skipif(not HAS_SECCOMP, reason="no seccomp on this system or processor")
needs_landlock = pytest.mark.skipif(not LANDLOCK, reason="the kernel has no Landlock")
needs_network_namespace = pytest.mark.skipif(
    not HAS_NETWORK_NAMESPACE, reason="a user may not have a network namespace here"
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is one of Linux")


@pytest.fixture
def goals(tmp_path: Path) -> Iterator[Goals]:
    """A file, listeners and another process; after the test all must be as before."""
    canary = tmp_path / "canary"
    canary.write_text("tweet")
    name = f"canary-{tmp_path}"
    victim = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)  # ends when its input does
    with victim, socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{name}")
        unix.listen()
        yield Goals(canary=str(canary), port=tcp.getsockname()[1], abstract=name, victim=victim.pid)
        victim.communicate()


def outcomes_in(layer: str, goals: Goals) -> dict[str, str]:
    """What an attack achieves in a process with one layer."""
    command = [sys.executable, "-m", "tests.service.decode.taken_over", layer, json.dumps(goals)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)  # noqa: S603
    return dict(json.loads(done.stdout))


@needs_linux
def test_without_a_sandbox_the_attack_succeeds(goals: Goals) -> None:
    """So its failures in the other tests are those of the sandbox."""
    outcomes = outcomes_in("none", goals)
    may_fail_anyway = {
        "become a program",
        "trace a process",
        "get hold of a process",
        "submit calls to the kernel",
        "call by the x32 interface",
    }
    assert {name for name, outcome in outcomes.items() if outcome != "done"} <= may_fail_anyway


@needs_seccomp
def test_a_process_that_was_taken_over_can_do_nothing_but_answer(
    goals: Goals, tmp_path: Path, spec: DecodeSpec
) -> None:
    """The process is the one that `DecodePool` starts; only the attack stands in place of the decoder."""
    outcomes, said = take_over(json.dumps(goals), tmp_path, spec)
    assert set(json.loads(outcomes.message).values()) == {"EPERM", "ENOSYS"}
    assert json.loads(outcomes.message)["read a file"] == "EPERM"
    assert said == b""
    assert Path(goals["canary"]).read_text() == "tweet"
    assert not Path(goals["canary"] + ".new").exists()


@needs_linux
def test_a_fault_in_the_sandbox_is_reported_with_its_traceback(tmp_path: Path, spec: DecodeSpec) -> None:
    """Though the process can't read its own source files any more."""
    error, _ = take_over("not the JSON of goals", tmp_path, spec)
    assert error.message == "The clip could not be decoded."
    assert "taken_over.py" in str(error.__cause__)
    assert "JSONDecodeError" in str(error.__cause__)


def take_over(clip: str, folder: Path, spec: DecodeSpec) -> tuple[DecodeCrashedError, bytes]:
    """What a process that was taken over answers to a clip, and what it said to the log of the service."""
    request = folder / "clip"
    request.write_text(clip)
    ours, theirs = socket.socketpair()
    descriptor = theirs.fileno()
    command = [sys.executable, "-P", "-m", "tests.service.decode.taken_over", "worker", str(descriptor)]
    process = subprocess.Popen(command, env=ENVIRONMENT, pass_fds=[descriptor], stderr=subprocess.PIPE)  # noqa: S603
    theirs.close()
    with process, ours, request.open("rb", buffering=0) as file:
        messages.receive(ours, messages.within(60))
        wire.send_request(ours, file, spec, LIMITS, 1)
        with pytest.raises(DecodeCrashedError) as caught:
            wire.receive_clip(ours, spec, LIMITS, messages.within(60), ignore_sound)
        ours.close()
        assert process.stderr is not None
        return caught.value, process.stderr.read()


@needs_seccomp
@pytest.mark.skipif(MACHINE != "x86_64", reason="only this processor has this second interface")
def test_a_64_bit_process_can_make_no_32_bit_call() -> None:
    """On a real kernel: by number the call would be allowed."""

    def outcome(layer: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.service.decode.taken_over", layer]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)  # noqa: S603

    if outcome("none").returncode < 0:
        pytest.skip("the kernel has no 32-bit interface")
    assert int(outcome("none").stdout) >= 0
    assert int(outcome("seccomp").stdout) == -errno.EPERM


@needs_landlock
def test_landlock_alone_keeps_files_and_programs_shut(goals: Goals) -> None:
    """For processors without a filter of system calls; newer kernels also refuse TCP, and signals."""
    outcomes = outcomes_in("landlock", goals)
    refused = ["read a file", "write a file", "create a file", "delete a file", "list a directory"]
    refused += ["start a program"]
    refused += ["connect by TCP", "listen"] if LANDLOCK >= 4 else []
    assert {name: outcomes[name] for name in refused} == dict.fromkeys(refused, "EACCES")
    scoped = ["connect by an abstract socket", "signal a process"] if LANDLOCK >= 6 else []
    assert {name: outcomes[name] for name in scoped} == dict.fromkeys(scoped, "EPERM")
    assert Path(goals["canary"]).read_text() == "tweet"


@needs_seccomp
def test_the_filter_of_system_calls_alone_keeps_everything_shut(goals: Goals) -> None:
    """For kernels without Landlock."""
    assert set(outcomes_in("seccomp", goals).values()) == {"EPERM", "ENOSYS"}
    assert Path(goals["canary"]).read_text() == "tweet"


@needs_network_namespace
def test_a_network_namespace_alone_reaches_no_address(goals: Goals) -> None:
    """Not even one of this machine."""
    assert outcomes_in("network_namespace", goals)["connect by TCP"] == "ENETUNREACH"


@needs_linux
def test_the_pool_reports_what_the_kernel_shows(make_clip: Make, spec: DecodeSpec) -> None:
    """Once, when the first process is ready, and it is true of every process."""
    reports: list[Sandbox] = []
    with DecodePool(LIMITS, n_workers=2, on_first_ready=reports.append) as pool:
        pool.decode(make_clip(ticks=range(3)), spec)
        first, second = pool._workers[-1], pool._workers[0]
        second.decode(make_clip(ticks=range(3)), spec, LIMITS, ignore_sound, 1)
        states = []
        for worker in (first, second):
            assert worker._process is not None
            text = Path(f"/proc/{worker._process.pid}/status").read_text()
            states.append(dict(re.findall(r"^(\w+):\s+(\S+)$", text, re.MULTILINE)))
    assert reports == [
        Sandbox(
            no_new_privs=True,
            network_namespace=HAS_NETWORK_NAMESPACE,
            landlock=LANDLOCK > 0,
            seccomp=HAS_SECCOMP,
        )
    ]
    for state in states:
        assert state["NoNewPrivs"] == "1"
        assert int(state["CapEff"], 16) == int(state["CapPrm"], 16) == 0
        if HAS_SECCOMP:
            assert state["Seccomp"] == "2"


def test_all_of_pyav_is_imported_before_the_sandbox_is_entered() -> None:
    """Some of it is imported only for a file that needs it, which would fail."""
    code = """
import pkgutil, sys
import service.decode.worker, av
print(*(m.name for m in pkgutil.walk_packages(av.__path__, "av.") if m.name not in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert set(done.stdout.split()) <= {"av.__main__", "av.datasets"}


def test_what_the_system_refuses_is_reported_as_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error: a container may allow none of it, and other systems have none of it."""

    class Refuses:
        def __getattr__(self, name: str) -> object:
            return lambda *_: -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refuses())
    assert enter_sandbox() == Sandbox()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(ctypes, "CDLL")
    assert enter_sandbox() == Sandbox()


def test_an_unknown_processor_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of another processor would allow the wrong calls."""
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    assert sandbox._enter_seccomp(ctypes.CDLL(None)) is False


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (Sandbox(no_new_privs=True, seccomp=True), "info"),
        (Sandbox(no_new_privs=True, landlock=True), "info"),
        (Sandbox(no_new_privs=True, network_namespace=True), "warning"),
    ],
)
def test_the_service_logs_each_layer_and_warns_if_files_stay_open(state: Sandbox, level: str) -> None:
    """One event with `on` or `off` for each."""
    with capture_logs() as logs:
        _log_sandbox(state)
    (event,) = logs
    assert (event["event"], event["log_level"]) == ("decoder_sandbox", level)
    assert {name: event[name] for name in state.states()} == state.states()
    assert list(state.states()) == ["no_new_privs", "network_namespace", "landlock", "seccomp"]
    assert set(state.states().values()) == {"on", "off"}


HOSTILE = {
    "list": b"ffconcat version 1.0\nfile neighbour.mp4\n",
    "playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nneighbour.mp4\n#EXT-X-ENDLIST\n",
    "session": SDP.encode(),
    "text": b"hello, this is no clip at all, only text" * 20,
    "cut": b"\0\0\0\x18ftypisom" + bytes(12),
}


@needs_seccomp
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_a_trace_shows_only_allowed_calls_after_the_start(make_clip: Make, tmp_path: Path) -> None:
    """Of a process that decodes good clips and hostile files: whatever else it tried has failed."""
    good = [
        make_clip(audio="aac"),
        make_clip(name="s.flac", codec=None, audio="flac"),
        make_clip(name="c.webm", codec="libvpx-vp9"),
    ]
    for name, content in HOSTILE.items():
        (tmp_path / name).write_bytes(content)
    names = [str(path) for path in (*good, *(tmp_path / name for name in HOSTILE))]
    script = f"""
from pathlib import Path
from service.decode import DecodePool
from service.errors import MediaError
from service.media import DecodeLimits, DecodeSpec
spec = DecodeSpec(n_frames=8, image_size_px=32, sample_rate_hz=16_000, max_audio_s=10.0)
n_good = 0
with DecodePool(DecodeLimits(), n_workers=1) as pool:
    for name in {names}:
        try:
            n_good += pool.decode(Path(name), spec).duration_s > 0
        except MediaError as error:
            print(error.code)
print(n_good)
"""
    log = tmp_path / "calls"
    command = [str(STRACE), "--follow-forks", "--output", str(log), sys.executable, "-c", script]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.split()[-1] == str(len(good))
    assert len(done.stdout.split()) == len(HOSTILE) + 1
    calls = calls_when_ready(log.read_text(errors="replace"))
    done_calls = {name for name, result in calls if result != "-1"}
    assert {"read", "recvmsg", "sendto", "mmap"} <= done_calls
    assert done_calls <= set(sandbox._ALLOWED) | {"exit_group", "exit"}


def calls_when_ready(trace: str) -> list[tuple[str, str]]:
    """The names and results of all calls that a decoding process and its threads made once it was ready."""
    ready: set[str] = set()
    calls = []
    for pid, line in re.findall(r"^(\d+) +(.*)$", trace, re.MULTILINE):
        if r"{\"ready\"" in line and line.startswith("sendto("):
            ready.add(pid)
        found = re.search(r"^(?:<\.\.\. )?(\w+)(?:\(| resumed>).* = (-?\w+)", line)
        if pid in ready and found is not None:
            calls.append((found[1], found[2]))
            if found[1] == "clone" and found[2] != "-1":
                ready.add(found[2])
    return calls


def test_hostile_files_are_refused_in_the_sandbox_as_without(
    make_clip: Make, tmp_path: Path, spec: DecodeSpec
) -> None:
    """With the same error, and the next clip works."""
    make_clip(name="neighbour.mp4", ticks=range(3))
    with DecodePool(LIMITS, n_workers=1) as pool:
        for name, content in HOSTILE.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(MediaError):
                pool.decode(tmp_path / name, spec)
        assert pool.decode(tmp_path / "neighbour.mp4", spec).frames is not None
