"""How soon the service is ready, and how long one request takes.

    python -m benchmarks.latency [--bundle weights/demo] [--starts 5] [--requests 50]

Starts the real server as a process of its own, waits until it is ready, then posts a generated 5 s clip with
100 label names, first cold and then warm, one request at a time. Times are medians of one run on one machine;
the ratio relates them to the decoding and encoding inside, which any service would have to do.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from benchmarks.clips import write_benchmark_clip

PORT = 18_765
LABELS = [f"candidate number {index}" for index in range(100)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("weights/demo"))
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--requests", type=int, default=50)
    options = parser.parse_args()
    _print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {options.bundle}"
    )
    with tempfile.TemporaryDirectory() as folder:
        _measure_start(options.bundle, Path(folder), options.starts)
        for height, gop in ((360, 30), (360, 250), (1080, 250)):
            clip = write_benchmark_clip(Path(folder) / "clip.mp4", seconds=5, height=height, gop=gop)
            _measure_requests(options.bundle, Path(folder), clip, f"{height}p GOP {gop}", options.requests)


def _measure_start(bundle: Path, folder: Path, n_starts: int) -> None:
    seconds = []
    for _ in range(n_starts):
        started = time.perf_counter()
        with _serving(bundle, folder):
            seconds.append(time.perf_counter() - started)
    spread = f"min {min(seconds):.2f}, max {max(seconds):.2f}"
    _print(f"ready after the process started: median {statistics.median(seconds):.2f} s ({spread})")


def _measure_requests(bundle: Path, folder: Path, path: Path, name: str, n_requests: int) -> None:
    content = path.read_bytes()
    with _serving(bundle, folder) as client:
        cold = _post(client, content)
        runs = [_post(client, content) for _ in range(n_requests)]
    walls = sorted(wall for wall, _ in runs)
    steps = {step: statistics.median(timings[step] for _, timings in runs) for step in runs[0][1]}
    work = steps["decode"] + steps["encode"]
    median = statistics.median(walls)
    _print(
        f"5 s {name}, 100 labels: cold {cold[0]:.0f} ms; warm p50 {median:.0f} ms, "
        f"p95 {walls[round(0.95 * (len(walls) - 1))]:.0f} ms; {median / work:.2f} x (decode + encode)"
    )
    _print("    " + ", ".join(f"{step} {ms:.1f}" for step, ms in steps.items()))


def _post(client: httpx2.Client, content: bytes) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    response = client.post("/v1/classify", files={"file": ("clip", content)}, data={"labels": LABELS})
    wall_ms = (time.perf_counter() - started) * 1000
    response.raise_for_status()
    return wall_ms, response.json()["timings_ms"]


@contextmanager
def _serving(bundle: Path, folder: Path) -> Iterator[httpx2.Client]:
    """A server that is ready to answer."""
    command = [sys.executable, "-m", "service.cli", "serve", "--bundle", str(bundle), "--port", str(PORT)]
    with subprocess.Popen(  # noqa: S603  (our own interpreter and arguments)
        [*command, "--data-dir", str(folder)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as client:
                _wait(client, process)
                yield client
        finally:
            process.terminate()


def _wait(client: httpx2.Client, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            if client.get("/v2/health/ready").status_code == httpx2.codes.OK:
                return
        except httpx2.TransportError:
            time.sleep(0.005)
    raise SystemExit("the server did not start; run `ahse serve` to see why")


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
