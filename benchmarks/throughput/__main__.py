"""Clips per second and how they grow: this service, the straightforward one, and the limits, in one run.

    python -m benchmarks.throughput [--out benchmarks/results] [--bundle DIR] [--quick | --full] [--resume]
    python -m benchmarks.throughput --device cuda [--out benchmarks/results/gpu]

Random weights of the real architectures (ViT-B/32, HTSAT-tiny, RoBERTa), which cost what trained ones cost
and whose answers mean nothing; then the everyday and the demo bundle. Generated clips, H.264 and AAC, posted
over HTTP by clients on the same machine. What is measured is in points.py: one base case, and from it clips,
clients, names and the length of the clip, one at a time. The straightforward service (opponent.py) is
measured as it is, and once more with the embeddings of its names kept. Services that are compared run right
after each other, and limits are measured before each point of this service.

Figures are written after each point as JSON, tables and plots after each part, so that an interrupted run can
be resumed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.load import form, measure, post
from benchmarks.machine import describe_machine
from benchmarks.names import LABELS, TOP_K, fields_of
from benchmarks.servers import Server, family
from benchmarks.throughput.contestants import Contestants
from benchmarks.throughput.gpu import describe_gpu, gpu_memory_mib, watch_gpu
from benchmarks.throughput.limits import GraphLimits, decode_rate, rank_rate
from benchmarks.throughput.material import prepare
from benchmarks.throughput.points import (
    BASE,
    CLIPS,
    DECODING,
    REAL,
    BenchmarkDevice,
    Fields,
    Point,
    all_points,
)
from benchmarks.throughput.report import write_figures, write_report
from service.bundle.directory import open_manifest

_PRECISION = {
    "cpu": {"straightforward": "fp32", "ahse": "int8"},
    "cuda": {"straightforward": "fp16", "ahse": "fp16"},
}
_EXTENTS = {
    "quick": "one or two requests a point, no 1080p",
    "full": "opponents with many clients in all cases, and very many new names, which takes 45 minutes more",
}

Row = dict[str, Any]


def main() -> None:
    """Measure, print and write."""
    options = _options()
    points = all_points(options.device, options.extent)
    clips = {BASE, *(point.clip for point in points)}
    files, bundles = prepare(options.work, clips, options.device, options.bundle)
    found = begin(options, bundles)
    done = {row["point"] for row in found["rows"]}
    points = [point for point in points if str(point) not in done]
    _say(f"{len(points)} points, about {sum(point.seconds for point in points) / 60:.0f} min")
    progress = _Progress(points)
    for bundle, some in groupby(points, key=lambda point: point.bundle):
        with (
            tempfile.TemporaryDirectory() as folder,
            Contestants(bundle, bundles[bundle], Path(folder), options.device) as services,
        ):
            bench = _Bench(bundles[bundle], services, files, options.device, found)
            for _, of_part in groupby(some, key=lambda point: point.part):
                for point in of_part:
                    progress.tell(point, bench.try_to_measure(point))
                    write_figures(found, options.out)
                write_report(found, options.out)
    sys.stdout.write((options.out / "throughput.md").read_text(encoding="utf-8"))
    if progress.n_failed:
        raise SystemExit(f"{progress.n_failed} points could not be measured; --resume tries them again")


def begin(options: argparse.Namespace, bundles: dict[str, Path]) -> Row:
    """What is known before anything is measured, or all that the run before has measured.

    Raises:
        SystemExit: That run was on another machine, with other versions or with other bundles.
    """
    written = options.out / "throughput.json"
    machine = describe_machine() | (describe_gpu() if options.device == "cuda" else {})
    digests = (f"{name} {open_manifest(bundle)[1][:12]}" for name, bundle in bundles.items())
    machine["bundles"] = ", ".join(digests)
    if options.resume and written.exists():
        resumed: Row = json.loads(written.read_text(encoding="utf-8"))
        if resumed["machine"] | {"date": machine["date"]} != machine:
            raise SystemExit(
                f"{written} is of another machine, other versions or bundles: begin without --resume"
            )
        return resumed
    known = {"machine": machine, "precision": _PRECISION[options.device]}
    return known | {"limits": {}, "ranking": {}, "rows": []}


class _Progress:
    """Tells what was measured, and how much time is left at the pace so far."""

    def __init__(self, points: list[Point]) -> None:
        self._started = time.perf_counter()
        self._n = len(points)
        self._left = [point.seconds for point in points]
        self._expected_s = 0.0
        self.n_failed = 0

    def tell(self, point: Point, told: str | None) -> None:
        """A point is done, or has failed."""
        self._expected_s += self._left.pop(0)
        self.n_failed += told is None
        taken_s = time.perf_counter() - self._started
        left_s = sum(self._left) * taken_s / self._expected_s
        _say(
            f"[{self._n - len(self._left)}/{self._n}, {taken_s / 60:.1f} min, about {left_s / 60:.0f} left] "
            f"{point}: {told or 'FAILED'}"
        )


class _Bench:
    """Measures the points of one bundle.

    Args:
        bundle: Its directory.
        services: The services with it.
        files: The clips.
        device: What the services run on.
        found: Takes what is found: rows, and limits.
    """

    def __init__(
        self,
        bundle: Path,
        services: Contestants,
        files: dict[str, Path],
        device: BenchmarkDevice,
        found: Row,
    ) -> None:
        self._bundle = bundle
        self._services = services
        self._files = files
        self._device = device
        self._found = found
        self._graphs: GraphLimits | None = None

    def try_to_measure(self, point: Point) -> str | None:
        """One point, and what to tell of it; None: a request was not answered, which ends nothing else."""
        try:
            row = self._measure(point)
        except SystemExit as error:
            _say(str(error))
            return None
        return f"{row['clips_per_s']:.2f} clips/s, p50 {row['p50_ms']:.0f} ms"

    def _measure(self, point: Point) -> Row:
        """One point, after a round of its limits."""
        if point.service in DECODING and not point.fields and _is_short(point.clip):
            self._measure_limits(point)
        server, is_new = self._services.server(point.service)
        body_of = self._bodies(point, self._files[point.clip].read_bytes())
        self._warm_up(point, server, is_new=is_new)
        server.forget_peak_memory()
        with watch_gpu() as use:
            result = measure(server.port, body_of, point.clients, point.n_requests)
        row = {key: value for key, value in asdict(point).items() if key != "seconds"}
        row |= {"point": str(point), "options": point.options, **asdict(result)}
        row |= {"peak_memory_mib": server.peak_memory_mib(), "ready_s": server.ready_s}
        row["gpu_busy_percent"] = use.mean
        row["gpu_memory_mib"] = gpu_memory_mib(family(server.pid)) if self._device == "cuda" else None
        if point.bundle == REAL and point.part == "clips" and point.names == "known" and not point.fields:
            row["similarities"] = self._similarities(server, body_of(0))
        self._found["rows"].append(row)
        return row

    def _measure_limits(self, point: Point) -> None:
        if self._graphs is None:
            self._graphs = GraphLimits(
                self._bundle, self._device, CLIPS[BASE].length_s, self._services.templates
            )
        rounds = self._found["limits"].setdefault(point.bundle, {"graphs": {}, "decoding": {}})
        for graph, rate in self._graphs.measure().items():
            rounds["graphs"].setdefault(graph, []).append(rate)
        decoding = decode_rate(self._bundle, self._files[point.clip])
        rounds["decoding"].setdefault(point.clip, []).append(decoding)
        ranking = self._found["ranking"].setdefault(point.bundle, {})
        if point.n_names > len(LABELS) and str(point.n_names) not in ranking:
            ranking[str(point.n_names)] = rank_rate(self._bundle, point.n_names)

    def _warm_up(self, point: Point, server: Server, *, is_new: bool) -> None:
        """Let a service see the names that it shall know, and a clip: its own, or a short one."""
        if point.service == "straightforward" and not is_new:
            return
        knows_names = point.names == "known" and point.service != "straightforward"
        content = self._files[point.clip if _is_short(point.clip) else BASE].read_bytes()
        names = fields_of(point.n_names if knows_names else len(LABELS), "known")(0)
        post(_connect(server), self._body(content, names, ()))

    def _bodies(self, point: Point, content: bytes) -> Callable[[int], bytes]:
        names = fields_of(point.n_names, point.names)
        if point.names == "new":
            return lambda number: self._body(content, names(number), point.fields)
        body = self._body(content, names(0), point.fields)
        return lambda _: body

    def _body(self, content: bytes, names: Fields, fields: Fields) -> bytes:
        prompts = [("templates", template) for template in self._services.templates]
        return form(content, [*names, *prompts, ("top_k", str(TOP_K)), *fields])

    def _similarities(self, server: Server, body: bytes) -> dict[str, list[float]]:
        """What a service says of each name in both tracks: to show that all compute the same."""
        _, answer = post(_connect(server), body)
        return {
            one["label"]: [one[track]["similarity"] for track in ("visual", "audio")]
            for one in answer["predictions"]
        }


def _is_short(clip: str) -> bool:
    return CLIPS[clip].length_s <= CLIPS[BASE].length_s


def _connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/benchmark"), help="for clips and a bundle")
    parser.add_argument("--bundle", type=Path, help="exported with --random-weights and seed 0")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of all services")
    extent = parser.add_mutually_exclusive_group()
    for name, told in _EXTENTS.items():
        extent.add_argument(f"--{name}", dest="extent", action="store_const", const=name, help=told)
    parser.add_argument("--resume", action="store_true", help="go on where the results in OUT stop")
    parser.set_defaults(extent="usual")
    options = parser.parse_args()
    results = "build/benchmark/quick" if options.extent == "quick" else "benchmarks/results"
    options.out = options.out or Path(results, *(["gpu"] if options.device == "cuda" else []))
    return options


if __name__ == "__main__":
    main()
