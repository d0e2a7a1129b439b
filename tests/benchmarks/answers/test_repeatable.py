"""Whether answers about one clip are found to be the same, and whether they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.answers.differences import Differences
from benchmarks.answers.remux import CONTAINERS, remux
from benchmarks.answers.repeatable import EXAMPLES, Setting, all_files, compare
from service.decode.clip_decoding import decode_clip
from service.media import DecodeLimits, DecodeSpec
from service.settings import DEMO_BUNDLE
from tests.toy import write_scenes

SPEC = DecodeSpec(n_frames=4, image_size_px=32, sample_rate_hz=16_000, max_audio_s=10.0)


def _answer(*scores: tuple[str, float], times: tuple[float, ...] = (0.5,), sound: Any = ()) -> dict[str, Any]:
    return {
        "predictions": [{"label": label, "score": score} for label, score in scores],
        "receipt": {"frame_times_s": list(times), "audio_windows_s": list(sound)},
    }


def test_differences_are_counted_and_the_largest_are_kept() -> None:
    """By name, whatever the order."""
    expected = _answer(("a", 0.625), ("b", 0.25), ("c", 0.125), sound=[(0.0, 2.0)])
    found = Differences()
    found.add(expected, expected)
    assert found == Differences(1, 1, 1, 0.0, 0.0, 0.0)
    found.add(_answer(("a", 0.5), ("c", 0.25), ("b", 0.25), times=(0.75,), sound=[(0.0, 2.5)]), expected)
    assert found == Differences(2, 1, 2, 0.125, 0.25, 0.5)
    found.add(_answer(("b", 0.625), ("a", 0.25), ("c", 0.125), sound=[]), expected)
    assert found == Differences(3, 1, 2, 0.375, 0.25, math.inf)


def test_a_clip_in_another_container_has_the_same_pictures_and_sound(tmp_path: Path) -> None:
    """Where edit lists are kept; the other containers agree with each other."""
    clip = write_scenes(tmp_path / "clip.mp4", ["red", "blue", "green"], ["low", "high", None])
    (tmp_path / "others").mkdir()
    files = remux(clip, tmp_path / "others")
    assert list(files) == list(CONTAINERS)
    found = {name: decode_clip(path, SPEC, DecodeLimits()) for name, path in files.items()}
    found["as it is"] = decode_clip(clip, SPEC, DecodeLimits())
    for same, other in (("as it is", "mp4"), ("mp4", "mov"), ("mkv", "ts"), ("ts", "flv")):
        np.testing.assert_array_equal(found[same].waveform, found[other].waveform)
    for one in found.values():
        np.testing.assert_array_equal(one.frames, found["mp4"].frames)
        np.testing.assert_allclose(one.frame_times_s, found["mp4"].frame_times_s, atol=1e-3)


def test_a_container_without_a_place_for_a_codec_is_left_out(tmp_path: Path) -> None:
    """And leaves no file."""
    with av.open(str(tmp_path / "clip.avi"), "w") as out:
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        out.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        out.mux(stream.encode())
    files = remux(tmp_path / "clip.avi", tmp_path)
    assert files.keys() & {"mkv", "flv"} == {"mkv"}
    assert not (tmp_path / "clip.flv").exists()


@pytest.mark.slow
def test_servers_rank_a_clip_alike_whatever_they_do_beside_it(tmp_path: Path) -> None:
    """In batches of other sizes, from several clients, and with features from the disk."""
    settings = [
        Setting("small", 4, {"AHSE_BATCH_FRAMES": 1, "AHSE_BATCH_WINDOWS": 1, "AHSE_BATCH_TOKENS": 50}),
        Setting("kept", 4, {"AHSE_CLIP_STORE_BYTES": 10**7}, n_times=2),
    ]
    clips = [EXAMPLES / name for name in ("star-with-an-ember.mp4", "leaf-with-a-chirp-silent.mp4")]
    (tmp_path / "files").mkdir()
    files = all_files(clips, tmp_path / "files")
    found = compare(DEMO_BUNDLE, files, settings, 24, tmp_path)
    assert {name for name, _ in found} == {"small", "kept"}
    same = [one for (_, container), one in found.items() if container not in ("mkv", "ts", "flv")]
    assert sum(one.n for one in same) >= 16
    assert all(one.n == one.n_same_order and one.score < 1e-5 and one.sound_s == 0 for one in same)
