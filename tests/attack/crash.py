"""The service is killed 100 times while clients edit label sets, sometimes with its disk full or read-only.

    python -m tests.attack.crash [--rounds 100] [--seed 1] [--out build/attack]

After each restart every acknowledged edit must be there, and nothing half. A full and a read-only disk need
root: the data directory is then on a file system in memory of its own. Without root they are left out, and
the report says so. Ends with code 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from benchmarks.servers import Server, family, free_port, memory_kib, running, serve_command
from tests.attack.editors import Editor, Tally, put_large_set
from tests.attack.figures import Figures, write_figures
from tests.toy import write_toy_bundle

_N_EDITORS = 4
_DISK = "16m"
# Labels of 7 MB, which take the disk twice: in the log and in the file.
_MORE_THAN_THE_DISK = 27_000
_PATIENCE_S = 30.0
_HALF_AN_UPLOAD = (
    b"POST /v1/classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="c"\r\n\r\n' + bytes(20_000)
)


class Disk:
    """The file system of the data directory.

    Args:
        folder: Where it is; a file system of its own is mounted there if this process may.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
        self.is_own = os.geteuid() == 0 and subprocess.run(words, check=False).returncode == 0  # noqa: S603
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (2**20, 2**12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Undo `fill`."""
        self._filler.unlink(missing_ok=True)

    def set_writable(self, writable: bool) -> None:
        """Mount it for reading only, or for writing again; no file in it may be open for writing."""
        mode = "rw" if writable else "ro"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)  # noqa: S603, S607

    def close(self) -> None:
        """Unmount it."""
        if self.is_own:
            subprocess.run(["umount", str(self.folder)], check=True)  # noqa: S603, S607


@dataclass
class Attack:
    """The whole run: the same clients and the same data directory in all rounds.

    Attributes:
        disk: Of the data directory, in which uploads are put too.
        bundle: What is served.
        log: Takes what the service writes to standard error.
        chance: For the moments of the kills.
        leftovers: Uploads of a killed service that the next one did not remove.
        orphans: Processes that outlived the killed service.
        unclear_starts: What the service wrote where it did not start, and did not say why either.
    """

    disk: Disk
    bundle: Path
    log: Path
    chance: random.Random
    tally: Tally = field(default_factory=Tally)
    rounds: Counter[str] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    leftovers: int = 0
    orphans: int = 0
    unclear_starts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.editors = [Editor(number, self.tally) for number in range(_N_EDITORS)]
        (self.disk.folder / "uploads").mkdir()

    @property
    def n_acknowledged(self) -> int:
        """Edits so far."""
        return sum(editor.n_acknowledged for editor in self.editors)

    def round(self, kind: str) -> None:
        """One round: start, check, edit, kill."""
        self.rounds[kind] += 1
        if kind == "killed while starting":
            self._start(self.chance.uniform(0.1, 3.0))
        elif kind == "read-only at start":
            self.disk.set_writable(False)
            self._start()
            self.disk.set_writable(True)
        elif kind == "full at start":
            self.disk.fill()
            self._start()
            self.disk.free()
        with self._service() as server:
            self.starts_s.append(server.ready_s)
            self._check(server.port)
            processes = family(server.pid)
            with self._clients(server.port):
                time.sleep(self.chance.uniform(0.05, 0.6))
                if kind == "full while editing":
                    self._fill(server.port)
                os.kill(server.pid, signal.SIGKILL)
        self.disk.free()
        if not _wait_for(lambda: not any(map(_is_alive, processes))):
            self.orphans += sum(map(_is_alive, processes))

    def finish(self) -> None:
        """What was acknowledged in the last round is there too."""
        with self._service() as server:
            self._check(server.port)

    def _check(self, port: int) -> None:
        """Compare everything with what was acknowledged, and look for uploads that were left behind."""
        for editor in self.editors:
            editor.check(port)
        folders = list(self.disk.folder.glob("uploads/*"))
        self.leftovers += len(folders) - 1 + sum(path.is_dir() for one in folders for path in one.iterdir())

    @contextlib.contextmanager
    def _clients(self, port: int) -> Iterator[None]:
        """Editors, and an upload that never ends, while the context lasts."""
        stop = threading.Event()
        threads = [threading.Thread(target=_edit, args=(one, port, stop)) for one in self.editors]
        with socket.create_connection(("127.0.0.1", port)) as upload:
            upload.sendall(_HALF_AN_UPLOAD)
            for thread in threads:
                thread.start()
            yield
            stop.set()
            for thread in threads:
                thread.join()

    def _fill(self, port: int) -> None:
        """Fill the disk: a large edit is refused. Every other time free it, until edits are accepted."""
        self.disk.fill()
        status = put_large_set(port, _MORE_THAN_THE_DISK)
        self.tally.answers[status] += 1
        if status != HTTPStatus.SERVICE_UNAVAILABLE:
            self.tally.wrong.append(f"an edit larger than the full disk: {status}")
        if self.chance.random() < 0.5:
            self.disk.free()
            done = self.n_acknowledged
            if not _wait_for(lambda: self.n_acknowledged > done + _N_EDITORS):
                self.tally.wrong.append("no edit was accepted after the disk had room again")

    def _start(self, seconds: float | None = None) -> None:
        """Start the service, and kill it after some time or when it is ready. It may refuse, and say why."""
        port = free_port()
        with self.log.open("wb") as log, subprocess.Popen(self._command(port), stderr=log) as process:  # noqa: S603
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE_S if seconds is None else seconds)
            process.kill()
        said = self.log.read_text(errors="replace")
        if process.returncode > 0 and ("Traceback" in said or "ahse: " not in said):
            self.unclear_starts.append(said[-1_000:])

    @contextlib.contextmanager
    def _service(self) -> Iterator[Server]:
        port = free_port()
        with self.log.open("wb") as log, running(self._command(port), port, log) as server:
            yield server

    def _command(self, port: int) -> list[str]:
        places = [f"AHSE_UPLOAD_DIR={self.disk.folder / 'uploads'}", "AHSE_DECODE_WORKERS=1"]
        return ["env", *places, *serve_command(self.bundle, port, self.disk.folder / "data")]

    def figures(self) -> Figures:
        """For the report."""
        tally = self.tally
        left_out = "none" if self.disk.is_own else "full and read-only disk, which need root"
        return {
            "rounds": self.rounds.total(),
            "kinds of rounds left out": left_out,
            "edits acknowledged": self.n_acknowledged,
            "acknowledged edits lost": tally.lost,
            "label sets half written": tally.torn,
            "edits refused with 503, but applied": tally.refused_but_applied,
            "answers of a wrong status": len(tally.wrong),
            "starts refused without saying why": len(self.unclear_starts),
            "uploads left behind": self.leftovers,
            "processes left behind": self.orphans,
            "median start until ready, seconds": statistics.median(self.starts_s),
            "Rounds": [{"kind": kind, "rounds": n} for kind, n in sorted(self.rounds.items())],
            "Answers to edits": [{"status": s, "answers": n} for s, n in sorted(tally.answers.items())],
        }

    def faults(self) -> list[str]:
        """What must not have happened, in words; empty if all is well."""
        counts = {
            "edits lost": self.tally.lost,
            "label sets half written": self.tally.torn,
            "refused edits applied": self.tally.refused_but_applied,
            "uploads left behind": self.leftovers,
            "processes left behind": self.orphans,
        }
        found = [f"{n} {what}" for what, n in counts.items() if n]
        return [*found, *self.tally.wrong, *self.unclear_starts]


def _edit(editor: Editor, port: int, stop: threading.Event) -> None:
    """Edit until the service is killed."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        editor.work(port, stop)


def _wait_for(happened: Callable[[], bool]) -> bool:
    """Whether something happens in time."""
    end = time.monotonic() + _PATIENCE_S
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)
    return happened()


def _is_alive(pid: int) -> bool:
    """Whether a process runs: one that ended and waits to be collected does not."""
    return memory_kib(pid, "VmRSS") > 0


def _kinds(n_rounds: int, may_spoil: bool, chance: random.Random) -> list[str]:
    """Of every twenty rounds, half are plain kills."""
    special = ["killed while starting"] * 2
    if may_spoil:
        special += ["full while editing"] * 4 + ["full at start"] * 2 + ["read-only at start"] * 2
    twenty = special + ["killed while editing"] * (20 - len(special))
    kinds = [twenty[index % len(twenty)] for index in range(n_rounds)]
    chance.shuffle(kinds)
    return kinds


def main() -> None:
    """Attack, and write what was found."""
    options = _options()
    chance = random.Random(options.seed)  # noqa: S311  (repeatable, not secret)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "disk").mkdir()
        with contextlib.closing(Disk(folder / "disk")) as disk:
            attack = Attack(disk, write_toy_bundle(folder / "toy"), folder / "log", chance)
            for number, kind in enumerate(_kinds(options.rounds, disk.is_own, chance), 1):
                attack.round(kind)
                sys.stderr.write(f"{number}. {kind}: {attack.n_acknowledged} edits, {attack.faults()}\n")
            attack.finish()
    command = f"python -m tests.attack.crash --rounds {options.rounds} --seed {options.seed}"
    write_figures(options.out, "crash", command, attack.figures())
    if faults := attack.faults():
        raise SystemExit("\n".join(faults))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/attack"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
