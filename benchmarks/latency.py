"""How soon the service is ready, and how long one request takes.

    python -m benchmarks.latency [--bundle weights/demo] [--starts 5] [--requests 50]

Starts the real server as a process of its own, waits until it is ready, then posts a generated 5 s clip with
100 label names, first cold and then warm, one request at a time, and again after restarts, with and without
the features of the clip on disk. Times are medians of one run on one machine; the ratio relates them to the
decoding and encoding inside, which any service would have to do.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.clips import write_benchmark_clip
from benchmarks.load import Measured, form, measure
from benchmarks.machine import describe_machine
from benchmarks.servers import running, serve_command

PORT = 18_765
LABELS = [("labels", f"candidate number {index}") for index in range(100)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("weights/demo"))
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--requests", type=int, default=50)
    options = parser.parse_args()
    _print(", ".join([*describe_machine().values(), str(options.bundle)]))
    _print(f"import of the service: {_import_seconds():.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        _measure_start(options.bundle, Path(folder), options.starts)
        for height, gop in ((360, 30), (360, 250), (1080, 250)):
            clip = write_benchmark_clip(Path(folder) / "clip.mp4", seconds=5, height=height, gop=gop)
            _measure_requests(options.bundle, Path(folder), clip, f"{height}p GOP {gop}", options.requests)
            _measure_restarts(options.bundle, Path(folder), clip, options.starts)


def _import_seconds() -> float:
    """Of everything that the service needs, in a fresh process, without starting it."""
    code = "import time; t = time.perf_counter(); import service.api.app; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(5)]  # noqa: S603
    return statistics.median(float(run.stdout) for run in runs)


def _measure_start(bundle: Path, folder: Path, n_starts: int) -> None:
    seconds = []
    for _ in range(n_starts):
        with running(serve_command(bundle, PORT, folder), PORT) as server:
            seconds.append(server.ready_s)
    spread = f"min {min(seconds):.2f}, max {max(seconds):.2f}"
    _print(f"ready after the process started: median {statistics.median(seconds):.2f} s ({spread})")


def _measure_requests(bundle: Path, folder: Path, path: Path, name: str, n_requests: int) -> None:
    body = form(path.read_bytes(), LABELS)
    (folder / "embeddings.sqlite3").unlink(missing_ok=True)  # cold means that no name was ever encoded
    with running(serve_command(bundle, PORT, folder), PORT):
        cold = measure(PORT, lambda _: body, 1, 1)
        warm = measure(PORT, lambda _: body, 1, n_requests)
    work = warm.steps_ms["decode"] + warm.steps_ms["encode"]
    _print(
        f"5 s {name}, 100 labels: cold {cold.p50_ms:.0f} ms; warm p50 {warm.p50_ms:.0f} ms, "
        f"p95 {warm.p95_ms:.0f} ms; {warm.p50_ms / work:.2f} x (decode + encode)"
    )
    _print_steps(warm)


def _measure_restarts(bundle: Path, folder: Path, path: Path, n_starts: int) -> None:
    """The first answer of a process about a clip that the one before was asked about, in pairs."""
    body = form(path.read_bytes(), LABELS)
    found: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(n_starts + 1):
        for is_kept in found:
            store = f"AHSE_CLIP_STORE_BYTES={10**8 if is_kept else 0}"
            with running(["env", store, *serve_command(bundle, PORT, folder)], PORT):
                found[is_kept].append(measure(PORT, lambda _: body, 1, 1).p50_ms)
    # In the first pair nothing was on disk yet.
    with_it, without = (statistics.median(found[is_kept][1:]) for is_kept in found)
    _print(f"    after a restart: {with_it:.0f} ms with its features on disk, {without:.0f} ms without")


def _print_steps(measured: Measured) -> None:
    _print("    " + ", ".join(f"{step} {ms:.1f}" for step, ms in measured.steps_ms.items()))


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
