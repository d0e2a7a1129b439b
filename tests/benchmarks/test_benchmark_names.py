"""Names of the benchmarks' requests, and their made-up embeddings."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import names
from benchmarks.names import LABEL_SET, LABELS, fields_of, keep_made_up, kept_names
from service.embed.embedder import LabelEmbedder
from service.embed.sqlite import SqliteEmbeddingStore
from service.labels.label import Candidates, Label
from service.registry import load_bundle
from service.runtime.providers import Runtime


@pytest.mark.parametrize("templates", [None, ("a {}.",)])
def test_made_up_embeddings_are_found_by_the_service(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, templates: tuple[str, ...] | None
) -> None:
    """It encodes none of these names, and other ones as ever."""
    monkeypatch.setattr(names, "N_KEPT", 5)
    monkeypatch.setattr(names, "_STEP", 2)
    bundle = load_bundle(toy_bundle, Runtime(device="cpu"))
    keep_made_up(bundle, templates, tmp_path)
    with closing(SqliteEmbeddingStore(tmp_path / "embeddings.sqlite3", 10)) as store:
        some = Candidates(tuple(Label(name) for name in [*kept_names(5), *LABELS]))
        assert LabelEmbedder(2**20, store).embed(bundle, some, templates).n_encoded == len(LABELS)


def test_known_names_are_the_same_in_each_request_and_new_ones_in_none() -> None:
    """A few are named, very many are a label set."""
    few, many, new = fields_of(10, "known"), fields_of(100_000, "known"), fields_of(10, "new")
    assert few(0) == few(1) == (("labels", json.dumps(LABELS)),)
    assert many(0) == (("label_set", LABEL_SET),)
    seen = [json.loads(new(number)[0][1]) for number in (0, 1)]
    assert not set(seen[0]) & set(seen[1])
    assert len(set(seen[0])) == 10
