"""Clips: their streams, and that the same seed gives the same file."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from demo_world.recording import ClipFormat, ClipPlan, Studio
from demo_world.soundtrack import Soundscape, synthesise
from demo_world.world import World

FORMAT = ClipFormat(duration_s=1.0, fps=5, height=96, width=112, rate_hz=16_000, crf=28)


@pytest.fixture(scope="module")
def studio() -> Studio:
    """A studio of the shipped world."""
    return Studio(World())


def plan(studio: Studio, seed: int) -> ClipPlan:
    """A short clip of the star and the bell."""
    return studio.plan(np.random.default_rng(seed), 4, 0, FORMAT)


def codecs(path: Path) -> list[str]:
    """Names of the codecs of a file's streams."""
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams]


def test_a_clip_has_h264_pictures_and_aac_sound(studio: Studio, tmp_path: Path) -> None:
    """Both tracks last as long as asked for."""
    path = tmp_path / "clip.mp4"
    studio.record(plan(studio, 1), path)
    assert codecs(path) == ["h264", "aac"]
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert (len(frames), frames[0].height, frames[0].width) == (5, 96, 112)


def test_either_track_can_be_left_out(studio: Studio, tmp_path: Path) -> None:
    """Silent clips and clips without picture lack the stream, not only its content."""
    studio.record(plan(studio, 1), tmp_path / "silent.mp4", sound=False)
    studio.record(plan(studio, 1), tmp_path / "dark.mp4", picture=False)
    assert codecs(tmp_path / "silent.mp4") == ["h264"]
    assert codecs(tmp_path / "dark.mp4") == ["aac"]


def test_the_same_seed_gives_the_same_bytes(studio: Studio, tmp_path: Path) -> None:
    """And another seed gives another clip."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        studio.record(plan(studio, seed), tmp_path / f"{name}.mp4")
    first, again, other = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert first == again
    assert first != other


def test_small_formats_have_even_sides(studio: Studio) -> None:
    """H.264 in its usual pixel format takes even sides only."""
    for seed in range(30):
        form = studio.plan(np.random.default_rng(seed), 0, 0).format
        assert form.height % 2 == 0
        assert form.width % 2 == 0


def test_sound_sources_differ_from_each_other() -> None:
    """No two sources have nearly the same spectrum over time, clean and at the same pitch and tempo."""
    world = World()
    keys = tuple(sound.key for sound in world.sounds)
    dry = Soundscape(0, 1.0, 1.0, 60.0, -20.0, 0.0, 0.0, None)
    prints = []
    for index in range(len(keys)):
        wave = synthesise(replace(dry, sound=index), keys, 2.0, 16_000, np.random.default_rng(3))
        assert np.abs(wave).max() <= 1.0
        assert -23.0 < 20 * np.log10(np.sqrt(np.mean(wave**2))) < -17.0
        spectrum = np.log(np.abs(np.fft.rfft(wave.reshape(-1, 400) * np.hanning(400))) + 1e-3).ravel()
        prints.append((spectrum - spectrum.mean()) / spectrum.std())
    likeness = np.array(prints) @ np.array(prints).T / len(prints[0]) - np.eye(len(keys))
    assert likeness.max() < 0.95
