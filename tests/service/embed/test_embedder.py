"""The cache of label embeddings, asked by several threads. Every step waits for an event, none for time."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cancellation import CancellationToken, WorkCancelled
from service.embed import embedder as embedder_module
from service.embed.embedder import LabelEmbedder
from service.embed.embeddings import LabelEmbeddings
from service.embed.sqlite import SqliteEmbeddingStore
from service.encode.encoders import Encoders
from service.encode.features import TextFeatures
from service.encode.text import encode_labels
from service.errors import StoreUnavailableError
from service.labels.label import Candidates, Label, SetVersion, make_label
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

WAIT_S = 30.0
ROOM = 10**6


def _room(n_names: int) -> int:
    """Capacity for so many names of the toy bundle, and half a one more: 16 numbers and 500 bytes each."""
    return 2 * int((n_names + 0.5) * (4 * 16 + 500))


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle, loaded."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1))


class _Held:
    """`encode_labels` that writes down what it is asked, and stays in it while `slow` is among the names."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.fails = False

    def __call__(self, encoders: Encoders, labels: Sequence[Label], templates: Any = None) -> TextFeatures:
        """Encode for real, in the end."""
        names = [label.name for label in labels]
        self.asked.append(names)
        if "slow" in names:
            self.begun.set()
            assert self.go_on.wait(WAIT_S)
            if self.fails:
                self.fails = False
                raise RuntimeError("broken")
        return encode_labels(encoders, labels, templates)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> _Held:
    """In place of the text encoders."""
    encoder = _Held()
    monkeypatch.setattr(embedder_module, "encode_labels", encoder)
    return encoder


def _labels(*names: str) -> tuple[Label, ...]:
    return tuple(make_label(name) for name in names)


def _names(*names: str) -> Candidates:
    return Candidates(_labels(*names))


def _set(name: str, *names: str, etag: str = "etag") -> Candidates:
    return Candidates(_labels(*names), SetVersion(name, etag))


def test_new_names_do_not_wait_behind_those_of_others(bundle: Bundle, held: _Held) -> None:
    """While one request's names are being encoded, another's are too."""
    embedder = LabelEmbedder(ROOM)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(embedder.embed, bundle, _names("slow", "red"))
        assert held.begun.wait(WAIT_S)
        assert embedder.embed(bundle, _names("blue")).n_encoded == 1
        held.go_on.set()
        assert slow.result(WAIT_S).n_encoded == 2
    assert held.asked == [["slow", "red"], ["blue"]]


def test_a_name_that_is_being_encoded_is_waited_for(bundle: Bundle, held: _Held) -> None:
    """The second request encodes only what the first does not, and both have the same embedding."""
    embedder = LabelEmbedder(ROOM)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(embedder.embed, bundle, _names("slow", "red"))
        assert held.begun.wait(WAIT_S)
        second = threads.submit(embedder.embed, bundle, _names("red", "green"))
        held.go_on.set()
        one, other = first.result(WAIT_S), second.result(WAIT_S)
    assert sorted(held.asked) == [["green"], ["slow", "red"]]
    np.testing.assert_array_equal(one.embedded.z[1], other.embedded.z[0])
    assert one.n_encoded + other.n_encoded == 3


def test_names_whose_request_failed_are_encoded_by_the_next(bundle: Bundle, held: _Held) -> None:
    """A client that leaves, or an error, costs the requests that waited nothing but time."""
    embedder, held.fails = LabelEmbedder(ROOM), True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(embedder.embed, bundle, _names("slow"))
        assert held.begun.wait(WAIT_S)
        second = threads.submit(embedder.embed, bundle, _names("slow"))
        held.go_on.set()
        with pytest.raises(RuntimeError, match="broken"):
            first.result(WAIT_S)
        assert second.result(WAIT_S).n_encoded == 1


def test_more_names_than_the_cache_holds(bundle: Bundle, held: _Held) -> None:
    """Are all embedded, each once a request."""
    del held
    embedder = LabelEmbedder(_room(2))
    names = _names("red", "green", "blue", "low", "high")
    for _ in range(2):
        found = embedder.embed(bundle, names)
        assert len(found.embedded.z) == 5
        expected = encode_labels(bundle.encoders, names.labels).visual
        np.testing.assert_array_equal(found.features.visual, expected)


def _kept(tmp_path: Path) -> SqliteEmbeddingStore:
    return SqliteEmbeddingStore(tmp_path / "embeddings.sqlite3", 100)


def test_a_restart_costs_no_encoding(bundle: Bundle, held: _Held, tmp_path: Path) -> None:
    """A new process finds on disk what the old one encoded, to the bit; other templates are other names."""
    names = _names("red", "blue")
    first = LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, names)
    again = LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, _names("red", "blue", "green"))
    assert held.asked == [["red", "blue"], ["green"]]
    assert (first.n_encoded, again.n_encoded) == (2, 1)
    np.testing.assert_array_equal(again.embedded.z[:2], first.embedded.z)
    np.testing.assert_array_equal(again.features.audio[:2], first.features.audio)
    assert LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, names, ("a {}.",)).n_encoded == 2


def test_a_label_set_is_kept_whole(bundle: Bundle, held: _Held) -> None:
    """The same arrays come again; another set, other templates, and the same names without a set do not."""
    embedder, names = LabelEmbedder(ROOM), _set("s", "red", "blue")
    first = embedder.embed(bundle, names)
    again = embedder.embed(bundle, names)
    assert again.features.visual is first.features.visual
    assert (first.n_encoded, again.n_encoded) == (2, 0)
    other = embedder.embed(bundle, _set("other", "red", "green"))
    assert [label.name for label in other.labels] == ["red", "green"]
    assert embedder.embed(bundle, names, ("a {}.",)).n_encoded == 2
    alone = embedder.embed(bundle, _names("red", "blue"))
    np.testing.assert_array_equal(alone.embedded.z, first.embedded.z)
    assert held.asked == [["red", "blue"], ["green"], ["red", "blue"]]


def test_an_edited_set_is_embedded_by_what_changed(bundle: Bundle, held: _Held) -> None:
    """Other prompts and new names are encoded; the rest is where it was, or has moved."""
    embedder = LabelEmbedder(ROOM)
    embedder.embed(bundle, _set("s", "red", "low", "blue", etag="1"))
    labels = (make_label("new"), *_labels("red", "blue"), make_label("low", ["high"]), make_label("green"))
    edited = Candidates(labels, SetVersion("s", "2"))
    found = embedder.embed(bundle, edited)
    assert held.asked == [["red", "low", "blue"], ["new", "low", "green"]]
    assert (found.labels, found.n_encoded) == (labels, 3)
    _check_same(found, LabelEmbedder(ROOM).embed(bundle, Candidates(labels)))
    assert embedder.embed(bundle, edited).features.visual is found.features.visual
    assert embedder.embed(bundle, _names("green", "blue", "new", "red")).n_encoded == 0


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True), min_size=2, max_size=4))
def test_all_versions_of_a_set_are_embedded_as_if_they_were_alone(
    shared: Bundle, versions: list[list[str]]
) -> None:
    """Whatever was added, removed or moved from one to the next."""
    embedder = LabelEmbedder(ROOM)
    alone = LabelEmbedder(ROOM)
    for number, names in enumerate(versions):
        found = embedder.embed(shared, _set("s", *names, etag=str(number)))
        assert found.labels == _labels(*names)
        _check_same(found, alone.embed(shared, _names(*names)))


def test_a_version_that_was_replaced_is_gone_whole(bundle: Bundle) -> None:
    """No row that both have keeps its arrays in memory; a name that left the set is encoded anew."""
    embedder = LabelEmbedder(ROOM)
    weak = weakref.ref(embedder.embed(bundle, _set("s", "red", "blue", etag="1")).features.visual)
    embedder.embed(bundle, _set("s", "red", "green", etag="2"))
    gc.collect()
    assert weak() is None
    assert embedder.embed(bundle, _names("red", "green")).n_encoded == 0
    assert embedder.embed(bundle, _names("blue")).n_encoded == 1


def test_the_version_before_is_not_waited_for(bundle: Bundle, held: _Held) -> None:
    """Two requests with two versions at once; the one that comes late is kept, and both are right."""
    embedder = LabelEmbedder(ROOM)
    embedder.embed(bundle, _set("s", "red", etag="1"))
    late = embedder.begin(bundle, _set("s", "red", "blue", etag="2"))
    assert embedder.embed(bundle, _set("s", "green", etag="3")).n_encoded == 1
    found = late.finish()
    _check_same(found, LabelEmbedder(ROOM).embed(bundle, _names("red", "blue")))
    assert embedder.embed(bundle, _set("s", "red", "blue", etag="2")).n_encoded == 0
    assert held.asked[:3] == [["red"], ["green"], ["blue"]]


def _check_same(found: LabelEmbeddings, expected: LabelEmbeddings) -> None:
    ours, theirs = (np.stack([one.row(i) for i in range(len(one.labels))]) for one in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_array_equal(found.seen, expected.seen)


def test_lists_make_room_for_each_other(bundle: Bundle) -> None:
    """The one that was used least recently goes; a list longer than the cache is kept alone."""
    embedder = LabelEmbedder(_room(3))
    one = embedder.embed(bundle, _set("one", "red", "blue"))
    embedder.embed(bundle, _set("long", "a", "b", "c", "d"))
    kept = embedder.embed(bundle, _set("long", "a", "b", "c", "d"))
    assert kept.n_encoded == 0
    again = embedder.embed(bundle, _set("one", "red", "blue"))
    assert again.features.visual is not one.features.visual


def test_a_list_that_made_room_is_gone_whole(bundle: Bundle, held: _Held) -> None:
    """No row of it stays behind, which would keep all its arrays in memory; rows of others do stay."""
    embedder = LabelEmbedder(_room(4))
    weak = weakref.ref(embedder.embed(bundle, _set("one", "red", "blue")).features.visual)
    embedder.embed(bundle, _names("green"))
    assert weak() is not None
    embedder.embed(bundle, _set("other", "a", "b", "c"))
    gc.collect()
    assert weak() is None
    assert embedder.embed(bundle, _names("a", "c")).n_encoded == 0
    assert held.asked == [["red", "blue"], ["green"], ["a", "b", "c"]]


def test_names_of_a_list_that_is_kept_whole_are_known_alone(bundle: Bundle, held: _Held) -> None:
    """In another order, beside new ones, and as what the encoders and the head say of them."""
    embedder = LabelEmbedder(ROOM)
    whole = embedder.embed(bundle, _set("s", "red", "blue", "green"))
    some = embedder.embed(bundle, _names("green", "new", "red"))
    assert held.asked == [["red", "blue", "green"], ["new"]]
    for ours, index in ((0, 2), (2, 0)):
        np.testing.assert_array_equal(some.row(ours), whole.row(index))
    features = encode_labels(bundle.encoders, _labels("red", "blue", "green"))
    np.testing.assert_allclose(whole.features.visual, features.visual, atol=1e-6)
    np.testing.assert_allclose(whole.features.audio, features.audio, atol=1e-6)
    np.testing.assert_allclose(whole.embedded.z, bundle.head.embed_names(features).z, atol=1e-5)


def test_a_large_list_is_kept_step_by_step(
    bundle: Bundle, held: _Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is encoded when the client leaves or the process ends is not encoded again."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    held.fails = True
    held.go_on.set()
    with pytest.raises(RuntimeError, match="broken"):
        LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, _names("a", "b", "slow", "c"))
    found = LabelEmbedder(ROOM, _kept(tmp_path)).embed(bundle, _names("a", "b", "slow", "c"))
    assert found.n_encoded == 2
    assert held.asked == [["a", "b"], ["slow", "c"], ["slow", "c"]]


def test_long_lists_of_several_requests_take_turns(
    bundle: Bundle, held: _Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with one new name waits for a step of a long list, not for all of it."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    embedder = LabelEmbedder(ROOM)
    long = embedder.begin(bundle, _names("a", "b", "c", "d"))
    short = embedder.begin(bundle, _names("e"))
    while not (long.is_known and short.is_known):
        for one in (long, short):
            if not one.is_known:
                one.step()
    assert held.asked == [["a", "b"], ["e"], ["c", "d"]]
    assert (long.finish().n_encoded, short.finish().n_encoded) == (4, 1)


def test_requests_with_the_same_long_list_share_it(
    bundle: Bundle, held: _Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one encodes the first names, the other goes on with the next; none is encoded twice."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    embedder, names = LabelEmbedder(ROOM), _names("slow", "b", "c", "d")
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(embedder.embed, bundle, names)
        assert held.begun.wait(WAIT_S)
        second = embedder.begin(bundle, names)
        second.step()  # the first two are being encoded: back to the end of the line
        second.step()
        held.go_on.set()
        assert first.result(WAIT_S).n_encoded + second.finish().n_encoded == 4
    assert sorted(held.asked) == [["c", "d"], ["slow", "b"]]


def test_an_encoding_stops_when_its_request_is_cancelled(
    bundle: Bundle, held: _Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps; what is encoded by then is kept."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    embedder, token = LabelEmbedder(ROOM), CancellationToken()
    with token.active():
        encoding = embedder.begin(bundle, _names("a", "b", "c"))
        encoding.step()
        token.cancel("deadline")
        with pytest.raises(WorkCancelled, match="labels"):
            encoding.finish()
    assert embedder.embed(bundle, _names("a", "b", "c")).n_encoded == 1
    assert held.asked == [["a", "b"], ["c"]]


@pytest.fixture(scope="module")
def shared(shared_bundle: Path) -> Bundle:
    """A bundle that tells how near names are to what it knows."""
    return load_bundle(shared_bundle, Runtime(device="cpu", n_threads=1))


def test_nearness_is_kept_with_a_name(shared: Bundle, held: _Held, tmp_path: Path) -> None:
    """In memory, as part of a whole list, and on disk over a restart, to the bit; nothing else moves."""
    names = ("red low", "piano", "синий", "filler0")
    direct = encode_labels(shared.encoders, _labels(*names))
    z = shared.head.embed_names(direct).z
    embedder = LabelEmbedder(ROOM, _kept(tmp_path))
    found = [
        embedder.embed(shared, _names(*names)),
        embedder.embed(shared, _names(*names)),
        embedder.embed(shared, _set("s", *names)),
        embedder.embed(shared, _set("s", *names)),
        LabelEmbedder(ROOM, _kept(tmp_path)).embed(shared, _names(*names)),
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
    embedder.embed(shared, _set("s", "piano", "red", "filler0"))
    nearness = embedder.embed(shared, _names("filler0", "blue", "piano")).features.nearness
    assert nearness is not None
    np.testing.assert_allclose(nearness, [0.5, 0.9, 0], atol=1e-6)


def test_a_bundle_that_knows_no_nearness_has_no_column_of_it(bundle: Bundle) -> None:
    """Its rows are as they were."""
    found = LabelEmbedder(ROOM).embed(bundle, _names("red"))
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
    assert embedder.embed(bundle, _names("red", "blue")).n_encoded == 2
    assert embedder.embed(bundle, _names("red")).n_encoded == 0
