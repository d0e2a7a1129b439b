"""The limits of a machine, on tiny bundles: only that each graph is run, and how limits add up."""

from pathlib import Path

import pytest

from benchmarks.throughput import limits
from benchmarks.throughput.limits import GraphLimits


def test_every_graph_of_a_bundle_has_a_limit(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both encoders, and of both text encoders."""
    _hurry(monkeypatch)
    found = GraphLimits(toy_bundle, "cpu", clip_s=2.0).measure()
    assert set(found) == {*limits.CLIP_GRAPHS, *limits.NAME_GRAPHS}


def test_a_text_graph_that_serves_both_tracks_counts_once(
    shared_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service runs it once a name."""
    _hurry(monkeypatch)
    found = GraphLimits(shared_bundle, "cpu", clip_s=2.0).measure()
    assert set(found) == {*limits.CLIP_GRAPHS, "text_visual"}


def test_encoding_and_decoding_share_the_processors_of_a_machine_without_gpu() -> None:
    """With one, the slower of both is the limit."""
    graphs = dict.fromkeys(limits.CLIP_GRAPHS, 4.0)
    assert limits.together(graphs, 2.0, 0, "cpu") == pytest.approx(1.0)
    assert limits.together(graphs, 3.0, 0, "cuda") == pytest.approx(2.0)


def test_the_limit_includes_texts_in_proportion_to_the_new_names() -> None:
    """Limits of text graphs are for ten names."""
    graphs = {"visual": 4.0, "text_visual": 8.0}
    assert limits.together(graphs, 4.0, 0, "cpu") == pytest.approx(2.0)
    assert limits.together(graphs, 4.0, 10, "cpu") == pytest.approx(1 / 0.625)
    assert limits.together(graphs, 4.0, 80, "cpu") == pytest.approx(1 / 1.5)


def test_ranking_is_part_of_the_limit() -> None:
    """The processors do it, whatever encodes."""
    graphs = {"visual": 4.0}
    assert limits.together(graphs, 4.0, 0, "cpu", ranking=2.0) == pytest.approx(1.0)
    assert limits.together(graphs, 4.0, 0, "cuda", ranking=2.0) == pytest.approx(4 / 3)


def test_ranking_has_a_limit_of_its_own(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among names whose embeddings are made up."""
    monkeypatch.setattr(limits, "_SECONDS_EACH", 0.01)
    assert limits.rank_rate(toy_bundle, 20) > 0


def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_SECONDS_EACH", 0.0)
