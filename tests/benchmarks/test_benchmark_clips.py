"""Clips that benchmarks measure with."""

from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
import pytest

from benchmarks.clips import repeat_clip, write_benchmark_clip


def test_a_repeated_clip_has_all_frames_at_even_distances(tmp_path: Path) -> None:
    """No gap and no jump back where it begins again, in picture and sound."""
    once = write_benchmark_clip(tmp_path / "once.mp4", seconds=1, height=64, gop=10)
    thrice = repeat_clip(once, 3, tmp_path / "thrice.mp4")
    assert len(_times(once, "video")) * 3 == len(_times(thrice, "video"))
    steps = _steps(_times(thrice, "video"))
    assert max(steps) == pytest.approx(min(steps), abs=1e-3)
    assert max(_steps(_times(thrice, "audio"))) == pytest.approx(1024 / 44_100, abs=3e-3)
    assert min(_steps(_times(thrice, "audio"))) > 0


def _times(path: Path, kind: Literal["video", "audio"]) -> list[float]:
    with av.open(str(path)) as clip:
        frames = clip.decode(video=0) if kind == "video" else clip.decode(audio=0)
        return [float(frame.time or 0) for frame in frames]


def _steps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]
