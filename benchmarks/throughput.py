"""Clips per second: this service, the straightforward one, and the limits of the machine, in one run.

    python -m benchmarks.throughput [--out benchmarks/results] [--bundle DIR] [--quick] [--device cuda]

Random weights of the real architectures (ViT-B/32, HTSAT-tiny, RoBERTa), which cost what trained ones cost
and whose answers mean nothing; the bundle is exported anew unless one is given. Generated clips of 10 s,
H.264 and AAC, posted over HTTP by clients on the same machine; 10 names, with one prompt each in both
services, known to the service (warm) or new in every request (cold). The straightforward service
(benchmarks/opponent.py) encodes names in every request, so warm and cold are the same to it. Writes a table,
a JSON file and a plot.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import limits
from benchmarks.clips import write_benchmark_clip
from benchmarks.gpu import describe_gpu, watch_gpu
from benchmarks.limits import BenchmarkDevice
from benchmarks.load import form, measure, post, unique_labels
from benchmarks.machine import describe_machine
from benchmarks.report import write_report
from benchmarks.servers import Server, running, serve_command

CLIPS = tuple(product((360, 1080), (30, 250)))
SECONDS = 10
TEMPLATE = "a video of a {}."
LABELS = [f"thing number {index}" for index in range(10)]
_PORT = 18_770
# Requests of all clients together: as many waves as fit into a quarter of an hour for everything.
_OPPONENT_REQUESTS = {"cpu": {1: 3, 8: 8, 32: 32}, "cuda": {1: 16, 8: 32, 64: 128}}
_SERVICE_REQUESTS = {"cpu": {1: 6, 8: 16, 32: 48}, "cuda": {1: 64, 8: 512, 64: 2048}}
_PRECISION = {
    "cpu": {"straightforward": "fp32", "ahse": "int8"},
    "cuda": {"straightforward": "fp16", "ahse": "fp16"},
}

Fields = list[tuple[str, str]]
Row = dict[str, Any]


def main() -> None:
    """Measure, print and write."""
    options = _options()
    clips = CLIPS[:1] if options.quick else CLIPS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = options.bundle or _export(folder / "random", options.device)
        files = {clip: _clip(folder, *clip) for clip in clips}
        found: Row = {"machine": describe_machine(), "clips": [_clip_name(*clip) for clip in clips]}
        found["precision"] = _PRECISION[options.device]
        found["machine"] |= describe_gpu() if options.device == "cuda" else {}
        found["limits"] = _limits(bundle, files, options.device)
        found["rows"] = _opponent(bundle, files, options.device)
        found["rows"] += _service(bundle, files, folder, options.device)
        found["difference"] = _difference(found["rows"])
    write_report(found, options.out)


def _limits(bundle: Path, files: dict[tuple[int, int], Path], device: BenchmarkDevice) -> Row:
    graphs = limits.graph_limits(bundle, device)
    decoding = {_clip_name(*clip): limits.decode_rate(bundle, file, 16) for clip, file in files.items()}
    encoding = [graphs[name].clips_per_s for name in limits.CLIP_GRAPHS]
    naming = [graphs[name].clips_per_s for name in limits.NAME_GRAPHS]
    _say(f"limits: {graphs}, decoding {decoding}")
    return {
        "graphs": {name: asdict(graph) for name, graph in graphs.items()},
        "decoding": decoding,
        "warm": {clip: limits.together(encoding, rate, device) for clip, rate in decoding.items()},
        "cold": {
            clip: limits.together([*encoding, *naming], rate, device) for clip, rate in decoding.items()
        },
    }


def _opponent(bundle: Path, files: dict[tuple[int, int], Path], device: BenchmarkDevice) -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.opponent", "--port", str(_PORT), "--device", device]
    n_requests = _OPPONENT_REQUESTS[device]
    with running([*command, "--clap-tokenizer", str(bundle / "tokenizer_audio.json")], _PORT) as server:
        return [
            row
            for clip, file in files.items()
            for row in _measure(server, clip, file, "straightforward", "every time", n_requests, [])
        ]


def _service(
    bundle: Path, files: dict[tuple[int, int], Path], folder: Path, device: BenchmarkDevice
) -> list[Row]:
    rows, n_requests = [], _SERVICE_REQUESTS[device]
    command = serve_command(bundle, _PORT, folder / "data", "--device", device)
    with running(command, _PORT) as server:
        for clip, file in files.items():
            for labels in ("warm", "cold"):
                rows += _measure(server, clip, file, "ahse", labels, n_requests, [])
            last = {max(n_requests): n_requests[max(n_requests)]}
            rows += _measure(server, clip, file, "ahse, key frames", "warm", last, [("frames", "key")])
    return rows


def _measure(
    server: Server,
    clip: tuple[int, int],
    file: Path,
    who: str,
    labels: str,
    n_requests: dict[int, int],
    fields: Fields,
) -> list[Row]:
    """One server and one clip at several numbers of clients."""
    content, rows = file.read_bytes(), []
    post(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60), _body(content, LABELS, fields))
    for n_clients, n in n_requests.items():
        body_of = _cold(content, fields) if labels == "cold" else _warm(content, fields)
        with watch_gpu() as busy:
            result = measure(server.port, body_of, n_clients, n)
        told = _similarities(server.port, _body(content, LABELS, fields))
        row = {"service": who, "clip": _clip_name(*clip), "labels": labels, "clients": n_clients}
        row |= asdict(result) | {"peak_memory_mib": server.peak_memory_mib(), "ready_s": server.ready_s}
        rows.append(row | {"similarities": told, "gpu_busy_percent": busy.mean})
        _say(f"{who}, {row['clip']}, {labels}, {n_clients} clients: {result.clips_per_s:.2f} clips/s")
    return rows


def _warm(content: bytes, fields: Fields) -> Callable[[int], bytes]:
    body = _body(content, LABELS, fields)
    return lambda _: body


def _cold(content: bytes, fields: Fields) -> Callable[[int], bytes]:
    names = unique_labels(len(LABELS))
    return lambda number: _body(content, names(number), fields)


def _body(content: bytes, labels: Sequence[str], fields: Fields) -> bytes:
    return form(content, [*(("labels", label) for label in labels), ("templates", TEMPLATE), *fields])


def _similarities(port: int, body: bytes) -> dict[str, list[float]]:
    """What a service says of each name in both tracks: to show that both compute the same."""
    _, answer = post(http.client.HTTPConnection("127.0.0.1", port, timeout=60), body)
    by_label = {one["label"]: one for one in answer["predictions"]}
    return {label: [_cosine(by_label[label][track]) for track in ("visual", "audio")] for label in LABELS}


def _cosine(told: Any) -> float:
    return float(told["similarity"] if isinstance(told, dict) else told)


def _difference(rows: list[Row]) -> float:
    """Largest difference of a similarity between the services, for the same clip at exact frames."""
    first = {(row["service"], row["clip"]): row.pop("similarities") for row in reversed(rows)}
    largest: float = max(
        abs(a - b)
        for (who, clip), theirs in first.items()
        if who == "straightforward"
        for label in LABELS
        for a, b in zip(theirs[label], first["ahse", clip][label], strict=True)
    )
    return largest


def _export(out: Path, device: BenchmarkDevice) -> Path:
    from typer.testing import CliRunner

    from model_export.cli.export_commands import app

    result = CliRunner().invoke(app, ["clip-clap", "--random-weights", "--device", device, "--out", str(out)])
    if result.exit_code:
        raise SystemExit(result.output)
    _say(result.output.strip())
    return out


def _clip(folder: Path, height: int, gop: int) -> Path:
    path = folder / f"{height}_{gop}.mp4"
    return write_benchmark_clip(path, seconds=SECONDS, height=height, gop=gop)


def _clip_name(height: int, gop: int) -> str:
    return f"{height}p GOP {gop}"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--bundle", type=Path, help="exported with --random-weights and seed 0")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of both services")
    parser.add_argument("--quick", action="store_true", help="the first clip only")
    return parser.parse_args()


if __name__ == "__main__":
    main()
