"""Half an hour of mixed load on a real server: ordinary, slow, rude and hostile clients, kills and reloads.

    python -m tests.attack.soak [--minutes 30] [--bundle weights/everyday] [--seed 1] [--out build/attack]

Every answer must come within its deadline and with a documented status, health must answer fast, memory and
open files must stay within 5 % from the end of the warm-up to the end, and nothing may be left behind.
Ends with code 1 otherwise. The log of the server is build/soak.log.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import Server, family, free_port, memory_kib, running, serve_command
from service.bundle.directory import read_manifest
from tests.attack.editors import Editor, put_large_set
from tests.attack.editors import Tally as Edits
from tests.attack.figures import Figures, write_figures
from tests.attack.soak_clients import CLIENTS, Client, Tally, Target

LOG = Path("build/soak.log")
# Short, so that each is reached many times; caches are small, so that they are full after the warm-up.
SETTINGS = {
    "AHSE_REQUEST_TIMEOUT_S": "30",
    "AHSE_HEADER_TIMEOUT_S": "5",
    "AHSE_KEEP_ALIVE_S": "5",
    "AHSE_UPLOAD_PAUSE_S": "5",
    "AHSE_BODY_TIMEOUT_S": "60",
    "AHSE_MIN_BYTES_PER_S": "16384",
    "AHSE_MAX_CONNECTIONS": "200",
    "AHSE_MAX_WAITING": "16",
    "AHSE_MAX_BYTES_IN_FLIGHT": str(16 * 2**20),
    "AHSE_HEALTH_INTERVAL_S": "5",
    "AHSE_LABEL_CACHE_BYTES": str(32 * 2**20),
    "AHSE_LABEL_STORE_SIZE": "2000",
}
_DEADLINE_S = 30.0
# The whole time of a body, then half a minute in which the rest of it is read and thrown away.
_CLOSE_AFTER_S = 100.0
_N_EDITORS = 2
_LARGE_SET = 6_000
_SAMPLE_S = 2.0
_GROWTH = 0.05
_HEALTH_S = 2.0
_SETTLE_S = 70.0
_EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.mp4"))


@dataclass(frozen=True)
class Sample:
    """What the service and its decoding processes hold at one moment."""

    seconds: float
    memory_mib: float
    n_files: int


def take_sample(server: Server, started: float) -> Sample:
    """Resident memory and open files, of all processes together."""
    processes = family(server.pid)
    memory = sum(memory_kib(pid, "VmRSS") for pid in processes) / 1024
    return Sample(time.monotonic() - started, memory, sum(map(_n_files, processes)))


def _n_files(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:  # ended in the meantime
        return 0


def main() -> None:
    """Attack, and write what was found."""
    options = _options()
    LOG.parent.mkdir(exist_ok=True)
    port, seconds = free_port(), 60.0 * options.minutes
    with tempfile.TemporaryDirectory() as name, LOG.open("wb") as log:
        uploads = Path(name) / "uploads"
        uploads.mkdir()
        settings = [f"{key}={value}" for key, value in SETTINGS.items()]
        command = serve_command(options.bundle, port, Path(name) / "data", "--log-format", "json")
        words = ["env", *settings, f"AHSE_UPLOAD_DIR={uploads}", *command]
        with running(words, port, log) as server:
            target = Target(
                port=port,
                pid=server.pid,
                bundle=read_manifest(options.bundle).name,
                deadline_s=_DEADLINE_S,
                close_after_s=_CLOSE_AFTER_S,
                clips=[path.read_bytes() for path in _EXAMPLES],
                tally=Tally(),
                stop=threading.Event(),
            )
            run = Soak(server, target)
            run.attack(seconds, options.seed)
            run.settle(uploads)
    figures = run.figures() | _read_log()
    command_line = f"python -m tests.attack.soak --minutes {options.minutes:g} --seed {options.seed}"
    write_figures(options.out, "soak", f"{command_line} --bundle {options.bundle}", figures)
    if faults := [*run.faults(), *([] if figures["errors in the log"] == 0 else ["errors in the log"])]:
        raise SystemExit("\n".join(f"{n} x {fault}" for fault, n in Counter(faults).most_common(30)))


class Soak:
    """One run.

    Args:
        server: Under load.
        target: What its clients know of it.
    """

    def __init__(self, server: Server, target: Target) -> None:
        self._server, self._target = server, target
        self._edits = Edits()
        self._editors = [Editor(number, self._edits) for number in range(_N_EDITORS)]
        self._samples: list[Sample] = []
        self._seconds = 0.0

    def attack(self, seconds: float, seed: int) -> None:
        """All clients at once for so long."""
        self._seconds = seconds
        target, started = self._target, time.monotonic()
        if put_large_set(target.port, _LARGE_SET) >= 400:
            raise SystemExit("the label set that slow readers ask for could not be put")
        threads = [
            threading.Thread(target=client.run, args=(target, f"{seed} {client.name} {number}"))
            for client in CLIENTS
            for number in range(client.count)
        ]
        threads += [threading.Thread(target=self._edit, args=(editor,)) for editor in self._editors]
        for thread in threads:
            thread.start()
        while (passed := time.monotonic() - started) < seconds and self._is_alive():
            self._samples.append(take_sample(self._server, started))
            if len(self._samples) % 30 == 0:
                sys.stderr.write(f"{passed:.0f} s: {self._samples[-1]}, {len(target.tally.faults)} faults\n")
            time.sleep(_SAMPLE_S)
        target.stop.set()
        for thread in threads:
            thread.join()

    def _edit(self, editor: Editor) -> None:
        """Edit until told to stop; one that gets no answer ends, which is a fault."""
        try:
            editor.work(self._target.port, self._target.stop, pause_s=0.2)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._target.tally.faults.append(f"edit: no answer: {error!r}")

    def settle(self, uploads: Path) -> None:
        """Wait until the service has let go of all clients; then it must work, and hold no upload."""
        target = self._target
        if not self._is_alive():
            target.tally.faults.append("the service died")
            return
        end = time.monotonic() + _SETTLE_S
        while list(uploads.glob("*/*/")) and time.monotonic() < end:
            time.sleep(0.5)
        left = [path for path in uploads.glob("*/*") if path.is_dir()]
        if left:
            target.tally.faults.append(f"{len(left)} uploads left behind")
        for editor in self._editors:
            editor.check(target.port)
        target.ask("ready at the end", "GET", "/v2/health/ready", ok={200})

    def _is_alive(self) -> bool:
        return memory_kib(self._server.pid, "VmRSS") > 0

    def _windows(self) -> tuple[list[Sample], list[Sample]]:
        """Samples behind the warm-up of two fifths of the time, and at the end; each of a fifth."""
        fifth = self._seconds / 5
        after = [one for one in self._samples if 2 * fifth <= one.seconds < 3 * fifth]
        return after, [one for one in self._samples if one.seconds >= 4 * fifth]

    def _growth(self) -> dict[str, float]:
        first, last = self._windows()
        return {
            "memory": _median(last, "memory_mib") / _median(first, "memory_mib") - 1,
            "open files": _median(last, "n_files") / _median(first, "n_files") - 1,
        }

    def faults(self) -> list[str]:
        """What must not have happened, in words; empty if all is well."""
        found = list(self._target.tally.faults) + self._edits.wrong
        found += [f"{what} grew by {100 * by:.1f} %" for what, by in self._growth().items() if by > _GROWTH]
        slow = {kind: max(self._target.tally.seconds[kind]) for kind in ("live", "ready")}
        found += [f"health ({kind}) took {s:.1f} s" for kind, s in slow.items() if s > _HEALTH_S]
        if lost := self._edits.lost + self._edits.torn + self._edits.refused_but_applied:
            found.append(f"{lost} label sets are not as acknowledged")
        return found

    def figures(self) -> Figures:
        """For the report."""
        tally, edits, growth = self._target.tally, self._edits, self._growth()
        first, last = self._windows()
        health = sorted(tally.seconds["live"] + tally.seconds["ready"])
        statuses = [f"{status}: {n}" for status, n in sorted(edits.answers.items())]
        return {
            "minutes": self._seconds / 60,
            "faults": len(self.faults()),
            "median memory behind the warm-up and at the end, MiB": _pair(first, last, "memory_mib"),
            "median open files behind the warm-up and at the end": _pair(first, last, "n_files"),
            "growth of memory, %": 100 * growth["memory"],
            "growth of open files, %": 100 * growth["open files"],
            "health, 99 % within, s": health[int(0.99 * (len(health) - 1))],
            "health, slowest, s": health[-1],
            "edits acknowledged": sum(editor.n_acknowledged for editor in self._editors),
            "edits lost, half written, or refused and applied": edits.lost
            + edits.torn
            + edits.refused_but_applied,
            "answers to edits": ", ".join(statuses),
            "settings": ", ".join(f"{key}={value}" for key, value in SETTINGS.items()),
            "Answers by kind of client (0: the connection was closed, or the client left)": [
                _row(client, tally) for client in CLIENTS
            ],
            "Faults": [
                {"fault": fault.replace("|", " "), "times": n}
                for fault, n in Counter(self.faults()).most_common(20)
            ],
        }


def _row(client: Client, tally: Tally) -> Figures:
    answers = {status: n for (kind, status), n in sorted(tally.answers.items()) if kind == client.name}
    times = sorted(tally.seconds[client.name]) or [0.0]
    return {
        "client": client.name,
        "at once": client.count,
        "answers": ", ".join(f"{status}: {n}" for status, n in answers.items()),
        "median, s": statistics.median(times),
        "slowest, s": times[-1],
    }


def _median(samples: Sequence[Sample], what: str) -> float:
    values: list[float] = [getattr(sample, what) for sample in samples]
    return statistics.median(values)


def _pair(first: Sequence[Sample], last: Sequence[Sample], what: str) -> str:
    return f"{_median(first, what):.0f}, {_median(last, what):.0f}"


def _read_log() -> Figures:
    """Every line is one JSON object, and none tells of an error that nobody foresaw."""
    n_errors, n_lines = 0, 0
    for line in LOG.read_text(errors="replace").splitlines():
        n_lines += 1
        try:
            n_errors += json.loads(line)["event"] == "unforeseen error"
        except (ValueError, KeyError, TypeError):
            n_errors += 1
    return {"lines of the log": n_lines, "errors in the log": n_errors}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--bundle", type=Path, default=Path("weights/everyday"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/attack"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
