"""How long ranking takes among very many names, and how much memory their embeddings take.

    python -m benchmarks.labels BUNDLE... [--labels 1000 100000 1000000]
    python -m benchmarks.labels BUNDLE... --new 100000

Text features are random unit vectors of the bundle's dims, which cost what encoded ones cost; ranking is the
service's own, with both tracks, the scores of each track and the ten best names. 121 segments (a clip of 20
minutes) are ranked one by one, as clips are, and together, as the service ranks them; memory is what Python
and numpy take beside the embeddings.

With `--new` names are encoded instead: how long a service without anything else to do takes to
embed them, in batches on all processors, and how long the straightforward service does with the same graphs,
with 1,000 of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.names import made_up_clips, made_up_names
from benchmarks.throughput.opponent_models import GraphModels, read_names
from service.api.prometheus import Metrics
from service.batch.batched_encoders import Batching, Budgets
from service.best import best_of_each
from service.classifier import rank_names
from service.embed.embedder import LabelEmbedder
from service.embed.embeddings import LabelEmbeddings
from service.labels.label import Candidates, make_label
from service.process import n_processors, use_one_thread_per_product
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

_RUNS = 15
_SEGMENTS, _SEGMENT_K, _SEGMENT_RUNS = 121, 5, 3
_WORDS = ("dog", "playing", "violin", "red", "car", "in the street", "ice hockey", "a group of people")
# Of all names and their embeddings.
_MOST_BYTES = 1 << 34
_STRAIGHTFORWARD_NAMES = 1_000


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--labels", nargs="+", type=int, default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--new", type=int, metavar="N", help="encode so many names, and rank nothing")
    options = parser.parse_args()
    use_one_thread_per_product()
    if options.new:
        _print(
            "| bundle | new names | s | ms a name | straightforward, ms | ratio |\n|---|---|---|---|---|---|"
        )
        for path in options.bundles:
            _print(_encoding(path, options.new))
        return
    _print(
        "| bundle | head | dims | names | MB | ranking, ms (min, median) | 121 segments one by one, s "
        "| together, s | ratio | MB one by one | MB together |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for path in options.bundles:
        bundle = load_bundle(path, Runtime(device="cpu"))
        for n in options.labels:
            _print(_row(bundle, n))


def _row(bundle: Bundle, n: int) -> str:
    draw, towers = np.random.default_rng(0), bundle.manifest
    candidates = made_up_names(bundle, n, draw)
    (clip,) = made_up_clips(bundle, 1, draw)
    times = [
        1000 * _seconds(lambda: rank_names(bundle, clip, candidates, "auto").ranking.best(10))
        for _ in range(_RUNS)
    ]
    megabytes = n * candidates.row(0).nbytes / 1e6
    cells = [
        towers.name,
        towers.head.kind,
        f"{towers.visual.dim} + {towers.audio.dim}",
        f"{n:,}",
        f"{megabytes:.0f}",
    ]
    cells += [f"{min(times):.1f}, {statistics.median(times):.1f}", *_segments(bundle, candidates, draw)]
    return f"| {' | '.join(cells)} |"


def _encoding(directory: Path, n: int) -> str:
    """Names of one to three words, of which most are three to eight tokens."""
    draw = np.random.default_rng(0)
    words = [" ".join(draw.choice(_WORDS, draw.integers(1, 4))) for _ in range(n)]
    names = [f"{word} {number}" for number, word in enumerate(words)]
    bundle = load_bundle(directory, Runtime(device="cpu", n_threads=1))
    serving = replace(bundle, encoders=Batching(Budgets(), Metrics()).wrap(bundle.encoders))
    candidates = Candidates(tuple(map(make_label, names)))
    seconds = _seconds(lambda: LabelEmbedder(_MOST_BYTES).embed(serving, candidates))
    models, some = GraphModels(directory, n_processors()), names[:_STRAIGHTFORWARD_NAMES]
    read_names(models, some[:1], ())
    ours, theirs = 1000 * seconds / n, 1000 * _seconds(lambda: read_names(models, some, ())) / len(some)
    cells = bundle.manifest.name, f"{n:,}", f"{seconds:.0f}", f"{ours:.2f}", f"{theirs:.2f}"
    return f"| {' | '.join(cells)} | {theirs / ours:.1f} |"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _segments(bundle: Bundle, names: LabelEmbeddings, draw: np.random.Generator) -> list[str]:
    clips = made_up_clips(bundle, _SEGMENTS, draw)

    def one_by_one() -> None:
        kept = [rank_names(bundle, clip, names, "auto") for clip in clips]
        for one in kept:
            one.ranking.best(_SEGMENT_K)

    def together() -> None:
        best_of_each(bundle, clips, names, "auto", _SEGMENT_K)

    times, memory = [], []
    for work in (one_by_one, together):
        times.append(min(_seconds(work) for _ in range(_SEGMENT_RUNS)))
        tracemalloc.start()
        work()
        memory.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    ratio = f"{times[0] / times[1]:.1f}"
    return [*(f"{one:.2f}" for one in times), ratio, *(f"{one:.0f}" for one in memory)]


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
