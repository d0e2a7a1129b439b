"""Names of the benchmarks' requests: few that are encoded, very many with made-up embeddings, and new ones.

The time to encode very many names says nothing about what they cost afterwards. So random unit vectors stand
for what the text encoders return, and are kept where the service finds the embeddings of names it has seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from benchmarks.load import unique_labels
from benchmarks.throughput.points import Fields, Names
from service.arrays import Array
from service.embed import embedder as embedder_module
from service.embed.embedder import LabelEmbedder
from service.embed.embeddings import LabelEmbeddings, label_embeddings, rows_of
from service.embed.sqlite import SqliteEmbeddingStore
from service.encode.features import ClipFeatures, TextFeatures, unit
from service.labels.label import Candidates, Label
from service.registry import Bundle

LABELS: Final = [f"thing number {index}" for index in range(10)]
"""known names that are encoded when they come first."""
N_KEPT: Final = 100_000
LABEL_SET: Final = "kept"
"""a label set of all N_KEPT names with made-up embeddings."""
TOP_K: Final = 10
# The longest list that the service takes in a request; longer ones are label sets.
_MAX_INLINE = 10_000
_STEP = 10_000


def kept_names(n: int) -> list[str]:
    """The first n names with made-up embeddings."""
    return [f"name number {index}" for index in range(n)]


def fields_of(n_names: int, names: Names) -> Callable[[int], Fields]:
    """What names a request, by the number of the request."""
    if names == "new":
        fresh = unique_labels(n_names)
        return lambda number: (_labels(fresh(number)),)
    if n_names > _MAX_INLINE:
        fixed = ("label_set", LABEL_SET)
    else:
        fixed = _labels(LABELS if n_names == len(LABELS) else kept_names(n_names))
    return lambda _: (fixed,)


def _labels(names: Sequence[str]) -> tuple[str, str]:
    return "labels", json.dumps(names)


def keep_made_up(bundle: Bundle, templates: tuple[str, ...] | None, data: Path) -> None:
    """Put embeddings of all N_KEPT names where a service with this data directory looks for them."""
    data.mkdir(parents=True, exist_ok=True)
    labels = [Label(name) for name in kept_names(N_KEPT)]
    with (
        closing(SqliteEmbeddingStore(data / "embeddings.sqlite3", 2 * N_KEPT)) as store,
        made_up_texts(bundle),
    ):
        for start in range(0, N_KEPT, _STEP):
            some = Candidates(tuple(labels[start : start + _STEP]))
            LabelEmbedder(2**20, store).embed(bundle, some, templates)


def put_label_set(port: int) -> None:
    """Store LABEL_SET in a service.

    Raises:
        SystemExit: It was refused.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    body = json.dumps({"labels": kept_names(N_KEPT)})
    with closing(connection):
        connection.request("PUT", f"/v1/label-sets/{LABEL_SET}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 300:
            raise SystemExit(f"the label set was answered {answer.status}: {answer.read()[:300]!r}")


def made_up_names(bundle: Bundle, n: int, draw: np.random.Generator) -> LabelEmbeddings:
    """Names without prompts, as if their texts had been encoded; step by step, to spare memory."""

    def rows() -> Iterator[Array]:
        for start in range(0, n, _STEP):
            texts = _texts(bundle, min(_STEP, n - start), draw)
            yield from rows_of(texts, bundle.head.embed_names(texts))

    return label_embeddings(bundle, [Label(f"name {i}") for i in range(n)], rows())


def made_up_clips(bundle: Bundle, n: int, draw: np.random.Generator) -> list[ClipFeatures]:
    """Clips with both tracks, whose features are random unit vectors."""
    visual, audio = (_unit(draw, n, one.dim) for one in (bundle.manifest.visual, bundle.manifest.audio))
    return [ClipFeatures(*both) for both in zip(visual, audio, strict=True)]


@contextmanager
def made_up_texts(bundle: Bundle) -> Iterator[None]:
    """While the context lasts, random unit vectors stand for what the text encoders return."""
    draw = np.random.default_rng(0)

    def encode(encoders: Any, labels: Sequence[Label], templates: Any = None) -> TextFeatures:
        del encoders, templates
        return _texts(bundle, len(labels), draw)

    with patch.object(embedder_module, "encode_labels", encode):
        yield


def _texts(bundle: Bundle, n: int, draw: np.random.Generator) -> TextFeatures:
    towers = bundle.manifest
    nearness = None if towers.known_names is None else np.ones(n, np.float32)
    return TextFeatures(_unit(draw, n, towers.visual.dim), _unit(draw, n, towers.audio.dim), nearness)


def _unit(draw: np.random.Generator, n: int, dim: int) -> Array:
    return unit(draw.standard_normal((n, dim), dtype=np.float32))
