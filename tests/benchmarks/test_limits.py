"""The limits of a machine, on a tiny bundle: only that each graph is run, and on what."""

from pathlib import Path

import pytest

from benchmarks import limits


def test_every_graph_of_a_bundle_has_a_limit(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both encoders, and of both text encoders."""
    monkeypatch.setattr(limits, "_SECONDS_EACH", 0.0)
    found = limits.graph_limits(toy_bundle, "cpu")
    assert set(found) == {*limits.CLIP_GRAPHS, *limits.NAME_GRAPHS}


def test_encoding_and_decoding_share_the_processors_of_a_machine_without_gpu() -> None:
    """With one, the slower of both is the limit."""
    assert limits.together([4.0, 4.0], 2.0, "cpu") == pytest.approx(1.0)
    assert limits.together([4.0, 4.0], 3.0, "cuda") == pytest.approx(2.0)
