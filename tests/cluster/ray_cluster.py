"""A Ray cluster of several nodes on this machine, in a process of its own that takes it along when it ends.

Run as a program it says the address of its head, which is node 0. A line `kill N` on its standard input kills
node N at once; at the end of its input it ends all nodes.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers import family

ROOT = Path(__file__).resolve().parents[2]
# Short, since sockets lie below it, and their paths may have 107 bytes.
_FOLDER = "ahse-ray-"
_SAID = "cluster:"


class RayCluster:
    """A running cluster.

    Attributes:
        address: Of its head.
        environment: For programs that use it.
    """

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        self._process = process
        self.environment = environment
        self.address = self._hear()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_SAID):
                return line.removeprefix(_SAID).strip()
        raise AssertionError("the cluster did not start")

    def kill_node(self, index: int) -> None:
        """Kill all processes of a node."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"kill {index}\n")
        self._process.stdin.flush()
        assert self._hear() == "killed"

    def find(self, words: str) -> list[int]:
        """Processes of the cluster whose command has these words in it."""
        return processes_of(self._process.pid, words)


def processes_of(pid: int, words: str) -> list[int]:
    """Those of a process and its descendants whose command has these words in it."""
    return [one for one in family(pid) if words in _command_of(one)]


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def ray_cluster(processors: Sequence[int], variables: dict[str, str] | None = None) -> Iterator[RayCluster]:
    """A cluster of nodes with so many processors each and a token; nothing of it is left afterwards.

    Args:
        processors: Of each node; the first one is the head.
        variables: Of its environment.
    """
    folder = tempfile.mkdtemp(prefix=_FOLDER)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AHSE_"))},
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_TMPDIR": folder,
        **(variables or {}),
    }
    words = [sys.executable, "-m", "tests.cluster.ray_cluster", *map(str, processors)]
    with subprocess.Popen(  # noqa: S603  (our own program)
        words, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        started: list[int] = []
        try:
            yield RayCluster(process, environment)
            started = family(process.pid)[1:]
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(120)
            shutil.rmtree(folder, ignore_errors=True)
    left = [pid for pid in started if (Path("/proc") / str(pid)).exists()]
    assert not left, [_command_of(pid) for pid in left]


def _main() -> None:
    from ray.cluster_utils import Cluster

    head, *others = (int(n) for n in sys.argv[1:])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head, "include_dashboard": False})
    nodes = [cluster.head_node, *(cluster.add_node(num_cpus=n) for n in others)]
    print(_SAID, cluster.address, flush=True)  # noqa: T201  (this is what it is for)
    for line in sys.stdin:
        cluster.remove_node(nodes[int(line.split()[1])], allow_graceful=False)
        print(_SAID, "killed", flush=True)  # noqa: T201
    cluster.shutdown()


if __name__ == "__main__":
    _main()
