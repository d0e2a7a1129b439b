"""Whether the service's memory stays where it is over many requests of all kinds.

    python -m benchmarks.memory [--bundle weights/demo] [--requests 10000] [--clients 8]

Requests are mixed by their number: the example clips and files that are none, few and many names, known and
new ones, other templates, segments, key frames. Prints the resident memory of the service and its decoding
processes after every tenth.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.load import form, measure
from benchmarks.servers import running, serve_command

PORT = 18_780
EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.mp4"))
_BROKEN_EVERY = 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("weights/demo"))
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    clips = [path.read_bytes() for path in EXAMPLES]
    step = options.requests // 10
    with (
        tempfile.TemporaryDirectory() as folder,
        running(serve_command(options.bundle, PORT, Path(folder)), PORT) as server,
    ):
        for done in range(0, options.requests, step):
            body_of = partial(_request, clips, done)
            result = measure(PORT, body_of, options.clients, step, may_fail=True)
            memory = server.memory_mib()
            _print(f"{done + step} requests: {memory:.0f} MiB, {result.clips_per_s:.1f} a second")
        _check(clips[0])


def _request(clips: list[bytes], done: int, number: int) -> bytes:
    """The form of a request, by its number alone."""
    number += done
    if number % _BROKEN_EVERY == _BROKEN_EVERY - 1:
        return form(clips[number % len(clips)][: 1000 + number % 5000], [("labels", "a"), ("labels", "b")])
    n_labels = (2, 5, 40, 100)[number % 4]
    new = number if number % 3 == 0 else 0
    fields = [("labels", f"name {new} {index}") for index in range(n_labels)]
    fields += [("templates", "a {}.")] if number % 7 == 0 else []
    fields += [("segment_s", "1")] if number % 11 == 0 else []
    fields += [("frames", "key")] if number % 2 else []
    return form(clips[number % len(clips)], fields)


def _check(clip: bytes) -> None:
    """It still answers."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    connection.request("GET", "/v2/health/ready")
    if connection.getresponse().status != http.HTTPStatus.OK:
        raise SystemExit("the service is not ready any more")
    measure(PORT, lambda _: form(clip, [("labels", "a"), ("labels", "b")]), 1, 1)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
