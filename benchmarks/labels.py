"""How long ranking takes among very many names, and how much memory their embeddings take.

    python -m benchmarks.labels BUNDLE... [--labels 1000 100000 1000000]

Text features are random unit vectors of the bundle's dims, which cost what encoded ones cost; ranking is the
service's own, with both tracks, the scores of each track and the ten best names.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from service.arrays import Array
from service.classifier import rank_names
from service.embed.embeddings import LabelEmbeddings, label_embeddings, rows_of
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.labels.label import Label
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

_RUNS = 15
_STEP = 50_000


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--labels", nargs="+", type=int, default=[1_000, 100_000, 1_000_000])
    options = parser.parse_args()
    _print("| bundle | head | dims | names | MB | ranking, ms (min, median) |\n|---|---|---|---|---|---|")
    for path in options.bundles:
        bundle = load_bundle(path, Runtime(device="cpu"))
        for n in options.labels:
            _print(_row(bundle, n))


def _row(bundle: Bundle, n: int) -> str:
    draw, towers = np.random.default_rng(0), bundle.manifest
    dims = (towers.visual.dim, towers.audio.dim)
    candidates = _candidates(bundle, n, draw)
    visual, audio = (_unit(draw, 1, dim)[0] for dim in dims)
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        rank_names(bundle, ClipFeatures(visual, audio), candidates, "auto").ranking.best(10)
        times.append((time.perf_counter() - start) * 1000)
    megabytes = n * candidates.row(0).nbytes / 1e6
    cells = (towers.name, towers.head.kind, f"{dims[0]} + {dims[1]}", f"{n:,}", f"{megabytes:.0f}")
    return f"| {' | '.join(cells)} | {min(times):.1f}, {statistics.median(times):.1f} |"


def _candidates(bundle: Bundle, n: int, draw: np.random.Generator) -> LabelEmbeddings:
    """Names without prompts, as if their texts had been encoded; step by step, to spare memory."""

    def rows() -> Iterator[Array]:
        for start in range(0, n, _STEP):
            m, towers = min(_STEP, n - start), bundle.manifest
            texts = TextFeatures(_unit(draw, m, towers.visual.dim), _unit(draw, m, towers.audio.dim))
            yield from rows_of(texts, bundle.head.embed_names(texts))

    return label_embeddings(bundle, [Label(f"name {i}") for i in range(n)], rows())


def _unit(draw: np.random.Generator, n: int, dim: int) -> Array:
    return unit(draw.standard_normal((n, dim), dtype=np.float32))


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
