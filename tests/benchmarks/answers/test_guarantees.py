"""`benchmarks.answers.guarantees`: on clips whose law is known, on toy clips, and of a small run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.answers import guarantees
from benchmarks.answers.guarantees import coverages, of_run
from benchmarks.answers.real_clips import LABELS_FILE
from model_export.head.conformal import Case
from model_export.head.training import train
from service.bundle.guarantees import Guarantees, load_guarantees
from tests.model_export.conftest import SMALL
from tests.model_export.head.small_world import small_world
from tests.toy import COLOURS, TONES_HZ, write_clip, write_toy_bundle

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process: words in; exit code and all that it printed out."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["guarantees", *(str(word) for word in words)])
        code = 0
        try:
            guarantees.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out + err

    return run


def _case(n_classes: int, n_clips: int, noise: float) -> Case:
    """Clips of so many unseen classes, whose right logit is 2 and others 0, with noise."""
    random, ids = np.random.default_rng(0), np.arange(n_classes)
    right = np.repeat(ids, n_clips)
    logits = noise * random.normal(size=(len(right), n_classes))
    logits[np.arange(len(right)), right] += 2
    return Case("unseen", "same", logits, right, ids, ids[:0], (10,))


def test_guarantees_are_kept_on_what_was_left_out() -> None:
    """On average, and hardly more often than asked for where there are many classes."""
    for one in coverages(_case(80, 4, 1.0), "both", (10,), None):
        assert one.level - 0.01 < one.held.mean() < one.level + 0.03
        assert one.stored_held is None


def test_stored_limits_are_kept_to_as_they_are() -> None:
    """Limits of easier clips are too narrow for harder ones."""
    stored = Guarantees(data="easier", limits=tuple(_case(80, 4, 0.3).limits("both")))
    easy, hard = (
        next(one for one in coverages(_case(80, 4, noise), "both", (10,), stored) if one.level == 0.9)
        for noise in (0.3, 1.5)
    )
    assert easy.stored_held is not None
    assert hard.stored_held is not None
    assert easy.stored_held >= 0.9 > hard.stored_held + 0.1


def test_what_a_bundle_may_store_is_written(command: Command, tmp_path: Path) -> None:
    """Nine toy clips: no warning for their own sounds, and guarantees up to nine tenths."""
    rows = ["file,label"]
    for colour in COLOURS:
        for tone in TONES_HZ:
            write_clip(tmp_path / f"{colour}_{tone}.mp4", colour, tone)
            rows.append(f"{colour}_{tone}.mp4,{colour} {tone}")
    (tmp_path / LABELS_FILE).write_text("\n".join(rows) + "\n")
    bundle = write_toy_bundle(tmp_path / "toy", head="similarity")
    nothing = tmp_path / "none.txt"
    nothing.write_text("")
    words = ("--bundle", bundle, "--distractors", nothing, "--write", tmp_path / "g.json")
    code, said = command("clips", tmp_path, *words)
    assert code == 0, said
    limits = load_guarantees(tmp_path / "g.json").of("both", "unseen", "same")
    assert [one.n_names for one in limits] == [2, 3, 5, 9]
    assert [limits[-1].at(0.9) is None, limits[-1].at(0.91) is None] == [False, True]
    assert "a warning: 0 of the own" in said
    assert '"visual_temperature"' in said


def test_a_bundle_with_a_trained_head_is_measured_in_training(command: Command, tmp_path: Path) -> None:
    """Said in a sentence."""
    write_clip(tmp_path / "a.mp4", "red", "low")
    write_clip(tmp_path / "b.mp4", "blue", "low")
    (tmp_path / LABELS_FILE).write_text("file,label\na.mp4,red\nb.mp4,blue\n")
    code, said = command("clips", tmp_path, "--bundle", write_toy_bundle(tmp_path / "toy"))
    assert code == 2
    assert "`ahse train` measures what can be guaranteed of it" in said


def test_guarantees_of_a_run_are_tried_on_its_test_clips(tmp_path: Path) -> None:
    """Beside what is stored: nothing for ten names, since validation has nine."""
    data = small_world()
    lines = of_run(train(data, SMALL, tmp_path / "run", n_threads=1), data)
    rows = [line.split(" | ") for line in lines if line.startswith("| both | seen | mixed | 10")]
    assert [row[5] for row in rows] == ["80%", "90%", "95%"]
    assert all(row[9] == "nothing" for row in rows)
    assert any("AUROC of agreement" in line for line in lines)
