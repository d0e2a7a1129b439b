"""Clips of different seeds, worlds or renderers never meet in one work folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from demo_world import evaluate, work_folder
from demo_world.evaluate import evaluate_demo
from demo_world.work_folder import OtherBuildError, claim
from demo_world.world import ClipCounts, World
from service.settings import DEMO_BUNDLE


def test_a_folder_is_for_one_seed_and_world(tmp_path: Path) -> None:
    """It can be claimed again for the same."""
    claim(tmp_path, 0, World())
    claim(tmp_path, 0, World())
    with pytest.raises(OtherBuildError, match="with seed 1; choose another folder with --work"):
        claim(tmp_path, 1, World())
    with pytest.raises(OtherBuildError):
        claim(tmp_path, 0, World(counts=ClipCounts(train=1)))


def test_clips_of_unknown_origin_are_not_taken_over(tmp_path: Path) -> None:
    """Nothing says which seed they are of."""
    (tmp_path / "clips").mkdir()
    with pytest.raises(OtherBuildError):
        claim(tmp_path, 0, World())


def test_clips_of_an_older_renderer_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its sources are part of what the folder is for."""
    sources = tmp_path / "sources"
    shutil.copytree(work_folder._SOURCES, sources)
    monkeypatch.setattr(work_folder, "_SOURCES", sources)
    work = tmp_path / "work"
    claim(work, 0, World())
    with (sources / "drawing.py").open("a") as drawing:
        drawing.write("# Wider lines.\n")
    with pytest.raises(OtherBuildError):
        claim(work, 0, World())


def test_measuring_claims_the_folder_before_it_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """So what an interrupted measurement has recorded can't become part of another build."""

    def interrupted(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(evaluate, "record_clips", interrupted)
    with pytest.raises(InterruptedError):
        evaluate_demo(DEMO_BUNDLE, tmp_path, 1, lambda _: None)
    with pytest.raises(OtherBuildError):
        evaluate_demo(DEMO_BUNDLE, tmp_path, 0, lambda _: None)
