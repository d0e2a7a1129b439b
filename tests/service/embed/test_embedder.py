"""The cache of label embeddings: what it keeps, and what makes room."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.embed import embedder as embedder_module
from service.embed.embedder import LabelEmbedder
from service.embed.embeddings import LabelEmbeddings
from service.embed.sqlite import SqliteEmbeddingStore
from service.encode.text import encode_labels
from service.errors import StoreUnavailableError
from service.labels.label import Candidates, SetVersion, make_label
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime
from tests.service.embed.fakes import ROOM, HeldEncoding, labels_of, names_of, set_of


def _room(n_names: int) -> int:
    """Capacity for so many names of the toy bundle, and half a one more: 16 numbers and 550 bytes each."""
    return 2 * int((n_names + 0.5) * (4 * 16 + 550))


def test_more_names_than_the_cache_holds(bundle: Bundle, held: HeldEncoding) -> None:
    """Are all embedded, each once a request."""
    del held
    embedder = LabelEmbedder(_room(2))
    names = names_of("red", "green", "blue", "low", "high")
    for _ in range(2):
        found = embedder.embed(bundle, names)
        assert len(found.embedded.z) == 5
        expected = encode_labels(bundle.encoders, names.labels).visual
        np.testing.assert_array_equal(found.features.visual, expected)


def _kept(tmp_path: Path) -> SqliteEmbeddingStore:
    return SqliteEmbeddingStore(tmp_path / "embeddings.sqlite3", 100)


def test_a_restart_costs_no_encoding(bundle: Bundle, held: HeldEncoding, tmp_path: Path) -> None:
    """A new process finds on disk what the old one encoded, to the bit; other templates are other names."""
    names = names_of("red", "blue")
    first = LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, names)
    again = LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, names_of("red", "blue", "green"))
    assert held.asked == [["red", "blue"], ["green"]]
    assert (first.n_encoded, again.n_encoded) == (2, 1)
    np.testing.assert_array_equal(again.embedded.z[:2], first.embedded.z)
    np.testing.assert_array_equal(again.features.audio[:2], first.features.audio)
    assert LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, names, ("a {}.",)).n_encoded == 2


def test_a_label_set_is_kept_whole(bundle: Bundle, held: HeldEncoding) -> None:
    """The same arrays come again; another set, other templates, and the same names without a set do not."""
    embedder, names = LabelEmbedder(ROOM), set_of("s", "red", "blue")
    first = embedder.embed(bundle, names)
    again = embedder.embed(bundle, names)
    assert again.features.visual is first.features.visual
    assert (first.n_encoded, again.n_encoded) == (2, 0)
    other = embedder.embed(bundle, set_of("other", "red", "green"))
    assert [label.name for label in other.labels] == ["red", "green"]
    assert embedder.embed(bundle, names, ("a {}.",)).n_encoded == 2
    alone = embedder.embed(bundle, names_of("red", "blue"))
    np.testing.assert_array_equal(alone.embedded.z, first.embedded.z)
    assert held.asked == [["red", "blue"], ["green"], ["red", "blue"]]


def test_an_edited_set_is_embedded_by_what_changed(bundle: Bundle, held: HeldEncoding) -> None:
    """Other prompts and new names are encoded; the rest is where it was, or has moved."""
    embedder = LabelEmbedder(ROOM)
    embedder.embed(bundle, set_of("s", "red", "low", "blue", etag="1"))
    labels = (make_label("new"), *labels_of("red", "blue"), make_label("low", ["high"]), make_label("green"))
    edited = Candidates(labels, SetVersion("s", "2"))
    found = embedder.embed(bundle, edited)
    assert held.asked == [["red", "low", "blue"], ["new", "low", "green"]]
    assert (found.labels, found.n_encoded) == (labels, 3)
    _check_same(found, LabelEmbedder(ROOM).embed(bundle, Candidates(labels)))
    assert embedder.embed(bundle, edited).features.visual is found.features.visual
    assert embedder.embed(bundle, names_of("green", "blue", "new", "red")).n_encoded == 0


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), min_size=2, max_size=4))
def test_all_versions_of_a_set_are_embedded_as_if_they_were_alone(
    shared: Bundle, versions: list[list[str]]
) -> None:
    """Whatever was added, removed or moved from one to the next."""
    embedder = LabelEmbedder(ROOM)
    alone = LabelEmbedder(ROOM)
    for number, names in enumerate(versions):
        found = embedder.embed(shared, set_of("s", *names, etag=str(number)))
        assert found.labels == labels_of(*names)
        _check_same(found, alone.embed(shared, names_of(*names)))


def test_a_version_that_was_replaced_is_gone_whole(bundle: Bundle) -> None:
    """No row that both have keeps its arrays in memory; a name that left the set is encoded anew."""
    embedder = LabelEmbedder(ROOM)
    weak = weakref.ref(embedder.embed(bundle, set_of("s", "red", "blue", etag="1")).features.visual)
    embedder.embed(bundle, set_of("s", "red", "green", etag="2"))
    gc.collect()
    assert weak() is None
    assert embedder.embed(bundle, names_of("red", "green")).n_encoded == 0
    assert embedder.embed(bundle, names_of("blue")).n_encoded == 1


def test_the_version_before_is_not_waited_for(bundle: Bundle, held: HeldEncoding) -> None:
    """Two requests with two versions at once; the one that comes late is kept, and both are right."""
    embedder = LabelEmbedder(ROOM)
    embedder.embed(bundle, set_of("s", "red", etag="1"))
    late = embedder.begin(bundle, set_of("s", "red", "blue", etag="2"))
    assert embedder.embed(bundle, set_of("s", "green", etag="3")).n_encoded == 1
    found = late.finish()
    _check_same(found, LabelEmbedder(ROOM).embed(bundle, names_of("red", "blue")))
    assert embedder.embed(bundle, set_of("s", "red", "blue", etag="2")).n_encoded == 0
    assert held.asked[:3] == [["red"], ["green"], ["blue"]]


def _check_same(found: LabelEmbeddings, expected: LabelEmbeddings) -> None:
    ours, theirs = (np.stack([one.row(i) for i in range(len(one.labels))]) for one in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_array_equal(found.seen, expected.seen)


def test_lists_make_room_for_each_other(bundle: Bundle) -> None:
    """The one that was used least recently goes; a list longer than the cache is kept alone."""
    embedder = LabelEmbedder(_room(3))
    one = embedder.embed(bundle, set_of("one", "red", "blue"))
    embedder.embed(bundle, set_of("long", "a", "b", "c", "d"))
    kept = embedder.embed(bundle, set_of("long", "a", "b", "c", "d"))
    assert kept.n_encoded == 0
    again = embedder.embed(bundle, set_of("one", "red", "blue"))
    assert again.features.visual is not one.features.visual


def test_prompts_take_room(bundle: Bundle) -> None:
    """A label may have a hundred times as much text of its own as a name, alone and in a set."""
    embedder = LabelEmbedder(_room(3))
    prompts = [f"{i} {'x' * 500}" for i in range(8)]
    embedder.embed(bundle, names_of("red"))
    one = embedder.embed(bundle, set_of("one", "blue"))
    long = Candidates((make_label("long", prompts),), SetVersion("long", "etag"))
    embedder.embed(bundle, long)
    assert embedder.embed(bundle, set_of("one", "blue")).features.visual is not one.features.visual
    assert embedder.embed(bundle, names_of("red")).n_encoded == 1


def test_templates_are_not_kept_with_each_name(bundle: Bundle) -> None:
    """They may have 32,000 characters, and come as other texts with each request."""
    embedder, templates = LabelEmbedder(ROOM), tuple(f"{article} {{}}." for article in ("a", "the"))
    before = sys.getrefcount(templates)
    embedder.embed(bundle, names_of("red", "blue"), templates)
    embedder.embed(bundle, set_of("s", "red", "green"), templates)
    assert sys.getrefcount(templates) == before
    assert embedder.embed(bundle, names_of("red"), ("a {}.", "the {}.")).n_encoded == 0


def test_a_list_that_made_room_is_gone_whole(bundle: Bundle, held: HeldEncoding) -> None:
    """No row of it stays behind, which would keep all its arrays in memory; rows of others do stay."""
    embedder = LabelEmbedder(_room(4))
    weak = weakref.ref(embedder.embed(bundle, set_of("one", "red", "blue")).features.visual)
    embedder.embed(bundle, names_of("green"))
    assert weak() is not None
    embedder.embed(bundle, set_of("other", "a", "b", "c"))
    gc.collect()
    assert weak() is None
    assert embedder.embed(bundle, names_of("a", "c")).n_encoded == 0
    assert held.asked == [["red", "blue"], ["green"], ["a", "b", "c"]]


def test_names_of_a_list_that_is_kept_whole_are_known_alone(bundle: Bundle, held: HeldEncoding) -> None:
    """In another order, beside new ones, and as what the encoders and the head say of them."""
    embedder = LabelEmbedder(ROOM)
    whole = embedder.embed(bundle, set_of("s", "red", "blue", "green"))
    some = embedder.embed(bundle, names_of("green", "new", "red"))
    assert held.asked == [["red", "blue", "green"], ["new"]]
    for ours, index in ((0, 2), (2, 0)):
        np.testing.assert_array_equal(some.row(ours), whole.row(index))
    features = encode_labels(bundle.encoders, labels_of("red", "blue", "green"))
    np.testing.assert_allclose(whole.features.visual, features.visual, atol=1e-6)
    np.testing.assert_allclose(whole.features.audio, features.audio, atol=1e-6)
    np.testing.assert_allclose(whole.embedded.z, bundle.head.embed_names(features).z, atol=1e-5)


def test_a_large_list_is_kept_step_by_step(
    bundle: Bundle, held: HeldEncoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is encoded when the client leaves or the process ends is not encoded again."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    held.fails = True
    held.go_on.set()
    with pytest.raises(RuntimeError, match="broken"):
        LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, names_of("a", "b", "slow", "c"))
    found = LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, names_of("a", "b", "slow", "c"))
    assert found.n_encoded == 2
    assert held.asked == [["a", "b"], ["slow", "c"], ["slow", "c"]]


@pytest.fixture(scope="module")
def shared(shared_bundle: Path) -> Bundle:
    """A bundle that tells how near names are to what it knows."""
    return load_bundle(shared_bundle, Runtime(device="cpu", n_threads=1))


def test_nearness_is_kept_with_a_name(shared: Bundle, held: HeldEncoding, tmp_path: Path) -> None:
    """In memory, as part of a whole list, and on disk over a restart, to the bit; nothing else moves."""
    names = ("red low", "piano", "синий", "filler0")
    direct = encode_labels(shared.encoders, labels_of(*names))
    z = shared.head.embed_names(direct).z
    embedder = LabelEmbedder(ROOM, _kept(tmp_path))
    found = [
        embedder.embed(shared, names_of(*names)),
        embedder.embed(shared, names_of(*names)),
        embedder.embed(shared, set_of("s", *names)),
        embedder.embed(shared, set_of("s", *names)),
        LabelEmbedder(ROOM, _kept(tmp_path)).embed(shared, names_of(*names)),
    ]
    assert held.asked == [list(names)]
    assert [one.n_encoded for one in found] == [4, 0, 0, 0, 0]
    for one in found:
        np.testing.assert_array_equal(one.features.nearness, direct.nearness)
        np.testing.assert_array_equal(one.features.visual, direct.visual)
        np.testing.assert_array_equal(one.features.audio, direct.audio)
        np.testing.assert_array_equal(one.embedded.z, z)


def test_a_name_of_a_whole_list_has_its_own_nearness(shared: Bundle) -> None:
    """In another order and beside a new one."""
    embedder = LabelEmbedder(ROOM)
    embedder.embed(shared, set_of("s", "piano", "red", "filler0"))
    nearness = embedder.embed(shared, names_of("filler0", "blue", "piano")).features.nearness
    assert nearness is not None
    np.testing.assert_allclose(nearness, [0.5, 0.9, 0], atol=1e-6)


def test_a_bundle_that_knows_no_nearness_has_no_column_of_it(bundle: Bundle) -> None:
    """Its rows are as they were."""
    found = LabelEmbedder(ROOM).embed(bundle, names_of("red"))
    assert found.features.nearness is None
    assert len(found.row(0)) == 3 + 3 + found.embedded.z.shape[1] + 5


class _Broken(SqliteEmbeddingStore):
    """A disk that does not answer."""

    def __init__(self) -> None:
        pass

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        raise StoreUnavailableError(f"{len(keys)} not read")

    def put(self, embeddings: Mapping[bytes, bytes]) -> None:
        raise StoreUnavailableError(f"{len(embeddings)} not written")

    def close(self) -> None:
        return


def test_a_broken_disk_costs_no_answer(bundle: Bundle) -> None:
    """Names are encoded as if there were none."""
    embedder = LabelEmbedder(ROOM, _Broken())
    assert embedder.embed(bundle, names_of("red", "blue")).n_encoded == 2
    assert embedder.embed(bundle, names_of("red")).n_encoded == 0
