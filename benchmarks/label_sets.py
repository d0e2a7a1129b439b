"""What changes and reads of label sets cost, and the first request after a change, by the size of the set.

    python -m benchmarks.label_sets [--bundle weights/demo] [--labels 1000 10000 100000]

The label store is the service's own, in a file of its own; a write is there when it returns. The embedding
of names is the service's, but for the text encoders: random unit vectors stand for what they return, so
that no name takes time to be encoded, and all that is left is the keeping and finding of embeddings.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.names import made_up_texts
from service.embed.embedder import LabelEmbedder
from service.labels.label import Label
from service.labels.sqlite.store import SqliteLabelStore
from service.labels.store import Content, Precondition
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

_ANY = Precondition()
_SET = "measured"
_CACHE_BYTES = 2**33
_MAX_CHARACTERS = 2**33


@dataclass(frozen=True)
class _Operation:
    """What is measured.

    Attributes:
        name: In the table.
        prepare: Is done before each run, outside of the time.
        run: Is timed.
    """

    name: str
    prepare: Callable[[], object]
    run: Callable[[], object]


def main() -> None:
    """Print a table in Markdown: milliseconds, and in brackets how many times those of the smallest set."""
    options = _options()
    machine = describe_machine()
    _print(
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores, python {machine['python']}\n"
    )
    bundle = load_bundle(options.bundle, Runtime(device="cpu"))
    columns = [_measure(bundle, n, options.runs) for n in options.labels]
    _print(f"| median of {options.runs}, ms | {' | '.join(f'{n:,} labels' for n in options.labels)} |")
    _print("|---" * (len(columns) + 1) + "|")
    for name, first in columns[0].items():
        cells = [f"{column[name]:.2f} ({column[name] / first:.1f})" for column in columns]
        _print(f"| {name} | {' | '.join(cells)} |")


def _measure(bundle: Bundle, n_labels: int, n_runs: int) -> dict[str, float]:
    """Median milliseconds of each operation on a set of that size."""
    with tempfile.TemporaryDirectory() as folder, made_up_texts(bundle), ExitStack() as stack:

        def opened() -> SqliteLabelStore:
            path = Path(folder) / "labels.sqlite3"
            return stack.enter_context(closing(SqliteLabelStore(path, 2 * n_labels, _MAX_CHARACTERS)))

        return {one.name: _time(one, n_runs) for one in _operations(opened, bundle, n_labels)}


def _operations(
    opened: Callable[[], SqliteLabelStore], bundle: Bundle, n_labels: int
) -> Iterator[_Operation]:
    """In an order in which each finds what it needs.

    Args:
        opened: Opens the same file again, as another process would.
        bundle: Whose embeddings are kept.
        n_labels: Size of the set.
    """
    store, embedder = opened(), LabelEmbedder(_CACHE_BYTES)
    content = Content(tuple(Label(f"name number {i}") for i in range(n_labels)))
    fresh, middle = itertools.count(n_labels), itertools.count(n_labels // 2)

    def nothing() -> None:
        """There is nothing to prepare."""

    def add() -> None:
        store.add(_SET, [Label(f"name number {next(fresh)}")], _ANY)

    def remove() -> None:
        store.remove(_SET, f"name number {next(middle)}", _ANY)

    def embed() -> None:
        embedder.embed(bundle, store.get(_SET).candidates)

    yield _Operation("put all", nothing, lambda: store.put(_SET, content, _ANY))
    yield _Operation("add one", nothing, add)
    yield _Operation("remove one, from the middle", nothing, remove)
    yield _Operation("list", nothing, lambda: store.page("", 100))
    yield _Operation("get, after an edit", add, lambda: store.get(_SET))
    other = opened()
    yield _Operation("get, after an edit by another process", add, lambda: other.get(_SET))
    embed()
    yield _Operation("embed, nothing changed", nothing, embed)
    yield _Operation("embed, after adding one", add, embed)
    yield _Operation("embed, after removing one", remove, embed)


def _time(operation: _Operation, n_runs: int) -> float:
    times = []
    for _ in range(n_runs):
        operation.prepare()
        start = time.perf_counter()
        operation.run()
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("weights/demo"))
    parser.add_argument("--labels", nargs="+", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=9)
    return parser.parse_args()


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
