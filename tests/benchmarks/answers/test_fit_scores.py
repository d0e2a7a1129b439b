"""Scores of a similarity head, fitted to rankings whose law is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.answers import fit_scores
from benchmarks.answers.fit_scores import Ranked, fit
from tests.toy import write_clip, write_toy_bundle


def _drawn(sharpness: float, n_names: int, n_clips: int = 4000) -> list[Ranked]:
    """Clips whose right names are drawn with the probabilities that a softmax gives them."""
    draw = np.random.default_rng(n_names)
    similarity = draw.normal(0, 1, (n_clips, n_names))
    shares = np.exp(similarity * sharpness)
    shares /= shares.sum(axis=1, keepdims=True)
    right = [int(draw.choice(n_names, p=row)) for row in shares]
    return [Ranked(row, index, 1.0) for row, index in zip(similarity, right, strict=True)]


@pytest.mark.parametrize("sharpness", [0.5, 2.0])
def test_the_temperature_that_drew_the_names_is_found(sharpness: float) -> None:
    """1 / sharpness, within what 4000 clips tell."""
    assert fit(_drawn(sharpness, 5)).temperature == pytest.approx(1 / sharpness, rel=0.1)


def test_unknown_tells_lists_without_the_right_name() -> None:
    """Right names lie at 5, wrong ones at 0: the threshold is between, and more names don't lower it."""
    draw = np.random.default_rng(0)
    ranked = []
    for n_names in (5, 50):
        for _ in range(200):
            similarity = draw.normal(0, 0.3, n_names)
            similarity[0] = draw.normal(5, 0.3)
            ranked.append(Ranked(similarity, 0, 1.0))
    found = fit(ranked)
    for n_names in (5, 50):
        threshold = found.unknown_threshold + found.unknown_slope * np.log(n_names)
        assert 1.0 < threshold < 4.5
    assert found.unknown_slope >= 0


def test_clips_without_pictures_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to fit the score of pictures to."""
    for tone in ("low", "high"):
        (tmp_path / "clips" / tone).mkdir(parents=True)
        write_clip(tmp_path / "clips" / tone / "a.mp4", None, tone, seconds=0.6)
    (tmp_path / "none.txt").touch()
    bundle = write_toy_bundle(tmp_path / "toy", head="similarity")
    words = (tmp_path / "clips", "--bundle", bundle, "--distractors", tmp_path / "none.txt")
    monkeypatch.setattr("sys.argv", ["fit_scores", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        fit_scores.main()
    assert ended.value.code == 2
    assert "There are no clips that have this track: visual. Add some." in capsys.readouterr().err
