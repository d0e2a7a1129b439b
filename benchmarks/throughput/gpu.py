"""What NVIDIA's own tool says of a GPU: which it is, how busy it is, and who has its memory."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_SAMPLE_MS = 200


@dataclass
class Busy:
    """Filled when the context ends."""

    percent: list[float] = field(default_factory=list)
    """share of each sample's time in which the GPU ran something."""

    @property
    def mean(self) -> float | None:
        """Over all samples; None without a GPU."""
        return statistics.mean(self.percent) if self.percent else None


def describe_gpu() -> dict[str, str]:
    """Card, driver and memory."""
    line, *_ = _ask("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
    return dict(zip(("GPU", "driver", "GPU memory"), line.split(", "), strict=True))


def gpu_memory_mib(pids: Collection[int]) -> float | None:
    """GPU memory that these processes hold together; None where it is not told, as in some containers."""
    lines = _ask("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
    held = dict(line.split(", ") for line in lines if line)
    own = [held[str(pid)] for pid in pids if str(pid) in held]
    return sum(map(float, own)) if own and all(one.isdecimal() for one in own) else None


@contextmanager
def watch_gpu() -> Iterator[Busy]:
    """How busy the GPU is while the context lasts; nothing is watched where there is none."""
    busy, tool = Busy(), shutil.which("nvidia-smi")
    if tool is None:
        yield busy
        return
    query = [
        "--id=0",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        f"--loop-ms={_SAMPLE_MS}",
    ]
    with subprocess.Popen([tool, *query], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  (our own arguments)
        try:
            yield busy
        finally:
            process.terminate()
            busy.percent = [float(line) for line in (process.stdout or []) if line.strip().isdecimal()]


def _ask(*words: str) -> list[str]:
    command = ["nvidia-smi", "--id=0", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603
