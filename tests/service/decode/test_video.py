"""Frames decoded by several threads are those that one decodes, whatever is wrong with the clip."""

import re
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest

from service.decode import decode_clip
from service.decode.packets import PacketLog, Run
from service.decode.video import FrameReader
from service.errors import ClipTooLargeError
from service.media import Clip, DecodeLimits, DecodeSpec
from tests.service.decode.conftest import Make

WAIT_S = 60
"""until a test fails that would otherwise stand still"""


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[FrameReader]:
    """Those that have read, in the order in which they began."""
    read, found = FrameReader.read, list[FrameReader]()

    def noticed(self: FrameReader, runs: Iterable[Run], **options: Any) -> None:
        found.append(self)
        read(self, runs, **options)

    monkeypatch.setattr(FrameReader, "read", noticed)
    return found


def assert_same(found: Clip, expected: Clip) -> None:
    """The same frames, from as many decoded ones, with the same said about them."""
    assert found.frames is not None
    assert expected.frames is not None
    np.testing.assert_array_equal(found.frames, expected.frames)
    np.testing.assert_array_equal(found.frame_times_s, expected.frame_times_s)
    assert (found.n_frames_decoded, found.warnings) == (expected.n_frames_decoded, expected.warnings)
    for one, other in zip(found.segments, expected.segments, strict=True):
        assert one.frames is not None
        np.testing.assert_array_equal(one.frames, other.frames)


def meet(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each reader wait in its first run until n are there."""
    all_there, frames, seen = threading.Barrier(n), FrameReader._frames, set[int]()

    def waiting(self: FrameReader, *args: Any) -> Any:
        if id(self) not in seen:
            seen.add(id(self))
            all_there.wait(WAIT_S)
        return frames(self, *args)

    monkeypatch.setattr(FrameReader, "_frames", waiting)


@pytest.mark.parametrize(
    ("limit", "n_threads", "expected"),
    [
        ({}, 8, 3),
        ({}, 2, 2),
        ({"memory_bytes": 17 * 1024**2 + 2 * 64 * 96 * 64}, 8, 2),
        ({"memory_bytes": 1}, 8, 1),
    ],
    ids=["as_many_as_runs", "as_many_as_threads", "as_many_as_memory", "little_memory"],
)
def test_runs_are_decoded_at_the_same_time(
    limit: dict[str, int],
    n_threads: int,
    expected: int,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    readers: list[FrameReader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clip of three groups of pictures, each with a frame that is wanted."""
    path, middles = make_clip(gop=20, ticks=range(60), width=96, height=64), replace(spec, n_frames=3)
    alone = decode_clip(path, middles, limits)
    readers.clear()
    meet(expected, monkeypatch)
    assert_same(decode_clip(path, middles, replace(limits, **limit), n_threads=n_threads), alone)
    assert len(readers) == expected


@pytest.mark.parametrize("damaged", [range(1), range(18, 19), range(24, 28), range(20, 40)])
def test_a_damaged_clip_is_read_by_one_thread_after_all(
    damaged: range, make_clip: Make, spec: DecodeSpec, limits: DecodeLimits, readers: list[FrameReader]
) -> None:
    """What a decoder makes of damage may depend on what it has seen before."""
    path = make_clip(gop=6)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for at, size in (packets[number] for number in damaged):
        assert at is not None
        content[at : at + size] = b"\xff" * size
    path.write_bytes(content)
    alone = decode_clip(path, spec, limits)
    assert any("damaged" in warning for warning in alone.warnings)
    readers.clear()
    assert_same(decode_clip(path, spec, limits, n_threads=4), alone)
    assert len(set(readers)) > 1


def test_threads_stop_at_the_limit_on_pixels_as_one_does(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """They count together: a header that tells too small a size does not buy each of them as much."""
    path = make_clip(gop=10, width=64, height=64)
    content = path.read_bytes()
    place = content.index(b"avc1", content.index(b"stsd")) + 28
    path.write_bytes(content[:place] + bytes([0, 16, 0, 16]) + content[place + 4 :])
    n_decoded = decode_clip(path, spec, limits).n_frames_decoded
    few = replace(limits, max_decoded_pixels=n_decoded * 64 * 64 - 1)
    for n_threads in (1, 3):
        with pytest.raises(ClipTooLargeError, match="too many pixels"):
            decode_clip(path, spec, few, n_threads=n_threads)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("is_kept", [True, False])
def test_each_decoder_learns_which_encoder_made_the_clip(
    n_threads: int,
    is_kept: bool,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """x264 coded 4:4:4 wrongly before build 151; decoders allow for it where the first packet names one."""
    path = make_clip(gop=1, pix_fmt="yuv444p")
    right, content = decode_clip(path, spec, limits).frames, path.read_bytes()
    named = re.sub(rb"x264 - core \d{3}", b"x264 - core 148", content)
    assert content != named
    path.write_bytes(named)
    monkeypatch.setattr(PacketLog, "is_kept", is_kept)
    found = decode_clip(path, spec, limits, n_threads=n_threads).frames
    assert found is not None
    assert right is not None
    # None of these pictures is the first, so a decoder that has not seen that would read them as they are.
    assert (np.abs(found.astype(int) - right).mean((1, 2, 3)) > 5).all()


def test_where_no_thread_can_be_started_one_decodes(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may be at its limit."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    path = make_clip(gop=10)
    alone = decode_clip(path, spec, limits)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", fail)
    assert_same(decode_clip(path, spec, limits, n_threads=4), alone)


def test_packets_that_are_not_kept_are_read_by_one_thread(
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    readers: list[FrameReader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are read from the file again, which has one position."""
    path = make_clip(gop=10)
    alone = decode_clip(path, spec, limits)
    monkeypatch.setattr(PacketLog, "is_kept", False)
    readers.clear()
    assert_same(decode_clip(path, spec, limits, n_threads=4), alone)
    assert len(set(readers)) == 1
