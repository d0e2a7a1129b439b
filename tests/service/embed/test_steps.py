"""Names that several threads embed at once, step by step. Every step waits for an event, none for time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.cancellation import CancellationToken, WorkCancelled
from service.embed import embedder as embedder_module
from service.embed.embedder import LabelEmbedder
from service.registry import Bundle
from tests.service.embed.fakes import ROOM, WAIT_S, HeldEncoding, names_of


def test_new_names_do_not_wait_behind_those_of_others(bundle: Bundle, held: HeldEncoding) -> None:
    """While one request's names are being encoded, another's are too."""
    embedder = LabelEmbedder(ROOM)
    with ThreadPoolExecutor(1) as thread:
        slow = thread.submit(embedder.embed, bundle, names_of("slow", "red"))
        assert held.begun.wait(WAIT_S)
        assert embedder.embed(bundle, names_of("blue")).n_encoded == 1
        held.go_on.set()
        assert slow.result(WAIT_S).n_encoded == 2
    assert held.asked == [["slow", "red"], ["blue"]]


def test_a_name_that_is_being_encoded_is_waited_for(bundle: Bundle, held: HeldEncoding) -> None:
    """The second request encodes only what the first does not, and both have the same embedding."""
    embedder = LabelEmbedder(ROOM)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(embedder.embed, bundle, names_of("slow", "red"))
        assert held.begun.wait(WAIT_S)
        second = threads.submit(embedder.embed, bundle, names_of("red", "green"))
        held.go_on.set()
        one, other = first.result(WAIT_S), second.result(WAIT_S)
    assert sorted(held.asked) == [["green"], ["slow", "red"]]
    np.testing.assert_array_equal(one.embedded.z[1], other.embedded.z[0])
    assert one.n_encoded + other.n_encoded == 3


def test_names_whose_request_failed_are_encoded_by_the_next(bundle: Bundle, held: HeldEncoding) -> None:
    """A client that leaves, or an error, costs the requests that waited nothing but time."""
    embedder, held.fails = LabelEmbedder(ROOM), True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(embedder.embed, bundle, names_of("slow"))
        assert held.begun.wait(WAIT_S)
        second = threads.submit(embedder.embed, bundle, names_of("slow"))
        held.go_on.set()
        with pytest.raises(RuntimeError, match="broken"):
            first.result(WAIT_S)
        assert second.result(WAIT_S).n_encoded == 1


def test_long_lists_of_several_requests_take_turns(
    bundle: Bundle, held: HeldEncoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with one new name waits for a step of a long list, not for all of it."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    embedder = LabelEmbedder(ROOM)
    long = embedder.begin(bundle, names_of("a", "b", "c", "d"))
    short = embedder.begin(bundle, names_of("e"))
    while not (long.is_known and short.is_known):
        for one in (long, short):
            if not one.is_known:
                one.step()
    assert held.asked == [["a", "b"], ["e"], ["c", "d"]]
    assert (long.finish().n_encoded, short.finish().n_encoded) == (4, 1)


def test_requests_with_the_same_long_list_share_it(
    bundle: Bundle, held: HeldEncoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one encodes the first names, the other goes on with the next; none is encoded twice."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    embedder, names = LabelEmbedder(ROOM), names_of("slow", "b", "c", "d")
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
    bundle: Bundle, held: HeldEncoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps; what is encoded by then is kept."""
    monkeypatch.setattr(embedder_module, "_LABELS_PER_STEP", 2)
    embedder, token = LabelEmbedder(ROOM), CancellationToken()
    with token.active():
        encoding = embedder.begin(bundle, names_of("a", "b", "c"))
        encoding.step()
        token.cancel("deadline")
        with pytest.raises(WorkCancelled, match="labels"):
            encoding.finish()
    assert embedder.embed(bundle, names_of("a", "b", "c")).n_encoded == 1
    assert held.asked == [["a", "b"], ["c"]]


def test_a_step_does_not_wait_for_the_names_of_another_thread(bundle: Bundle, held: HeldEncoding) -> None:
    """It tells what to wait for, and whoever waits no longer does not end that for others."""
    embedder = LabelEmbedder(ROOM)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(embedder.embed, bundle, names_of("slow", "red"))
        assert held.begun.wait(WAIT_S)
        second = embedder.begin(bundle, names_of("red", "slow"))
        elsewhere = threads.submit(second.step).result(WAIT_S)
        assert elsewhere is not None
        assert not elsewhere.cancel()
        assert not elsewhere.done()
        held.go_on.set()
        assert first.result(WAIT_S).n_encoded == 2
        assert elsewhere.done()
    assert second.step() is None
    assert second.is_known
