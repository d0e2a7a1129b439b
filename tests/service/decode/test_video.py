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
from av.video.frame import VideoFrame

from service.decode import decode_clip
from service.decode.container import Damage, open_source, packets
from service.decode.frame_reader import FrameReader
from service.decode.packets import PacketLog, Run
from service.decode.picture import Framer
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
    """Let each of the first n readers wait in its first run until all are there."""
    all_there, frames, seen = threading.Barrier(n), FrameReader._frames, list[FrameReader]()

    def waiting(self: FrameReader, *args: Any) -> Any:
        if len(seen) < n and self not in seen:
            seen.append(self)
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
    path, middles = make_clip(gop=20, width=96, height=64), replace(spec, n_frames=3)
    alone = decode_clip(path, middles, limits)
    readers.clear()
    meet(expected, monkeypatch)
    assert_same(decode_clip(path, middles, replace(limits, **limit), n_threads=n_threads), alone)
    assert len(readers) == expected


@pytest.mark.parametrize("damaged", [range(1), range(18, 19), range(24, 28), range(20, 40)])
def test_a_damaged_clip_is_read_by_one_thread_after_all(
    damaged: range,
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    readers: list[FrameReader],
    monkeypatch: pytest.MonkeyPatch,
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
    meet(2, monkeypatch)
    assert_same(decode_clip(path, spec, limits, n_threads=2), alone)
    assert len(set(readers)) == 3


def test_threads_stop_at_the_limit_on_pixels_as_one_does(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """Also if the header tells too small a size, by which the clip would be within it."""
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
    if not is_kept:
        monkeypatch.setattr("service.decode.packets._KEEP_BYTES", 0)
    meet(n_threads if is_kept else 1, monkeypatch)
    found = decode_clip(path, spec, limits, n_threads=n_threads).frames
    assert found is not None
    assert right is not None
    # None of these pictures is the first, so a decoder that has not seen that would read them as they are.
    assert (np.abs(found.astype(int) - right).mean((1, 2, 3)) > 5).all()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("c.mp4", {"video_options": {"x264-params": "open-gop=1:bframes=3:b-pyramid=normal"}}),
        ("c.mkv", {"codec": "libx265", "video_options": {"x265-params": "log-level=none:keyint=10"}}),
        ("c.webm", {"codec": "libvpx-vp9"}),
    ],
    ids=["h264", "hevc", "vp9"],
)
def test_threads_give_the_frames_of_one(
    name: str,
    changes: dict[str, Any],
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    readers: list[FrameReader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the clip and of its segments."""
    path, asked = make_clip(name=name, gop=10, **changes), replace(spec, segment_s=0.4)
    alone = decode_clip(path, asked, limits)
    readers.clear()
    meet(2, monkeypatch)
    assert_same(decode_clip(path, asked, limits, n_threads=2), alone)
    assert len(readers) == 2


@pytest.mark.parametrize(
    ("name", "changes"),
    [("c.avi", {"codec": "mpeg4"}), ("c.ts", {}), ("c.webm", {"codec": "libvpx"})],
    ids=["mpeg4", "ts", "vp8"],
)
def test_what_may_tell_a_decoder_anything_anywhere_is_read_by_one_thread(
    name: str,
    changes: dict[str, Any],
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    readers: list[FrameReader],
) -> None:
    """A decoder that has not seen all that came before might return other frames, without a word."""
    decode_clip(make_clip(name=name, gop=10, **changes), spec, limits, n_threads=4)
    assert len(readers) == 1


def test_frames_that_are_called_corrupt_are_read_by_one_thread(
    make_clip: Make,
    spec: DecodeSpec,
    limits: DecodeLimits,
    readers: list[FrameReader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decoder that conceals damage may take what is missing from frames that it has seen before."""
    path = make_clip(gop=10)
    alone = decode_clip(path, spec, limits)
    readers.clear()

    def corrupt(self: FrameReader, frame: VideoFrame) -> None:
        count(self, frame)
        self.is_corrupt = True

    count = FrameReader._count
    monkeypatch.setattr(FrameReader, "_count", corrupt)
    meet(2, monkeypatch)
    assert_same(decode_clip(path, spec, limits, n_threads=2), alone)
    assert len(set(readers)) == 3


def test_a_decoder_keeps_as_many_frames_as_are_reordered(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits
) -> None:
    """The header of a fragmented MP4 does not say how many those are, nor need that of H.264."""
    options = {"x264-params": "bframes=7:b-pyramid=normal:b-adapt=0"}
    path = make_clip(
        gop=60, video_options=options, container_options={"movflags": "frag_keyframe+empty_moov"}
    )
    with path.open("rb", buffering=0) as file, open_source(file, limits) as source:
        stream = source.video_stream
        assert stream is not None
        told = stream.codec_context.reorder_depth
        log = PacketLog(stream, source, Damage())
        for packet in packets(source.container, [stream]):
            log.add(packet)  # type: ignore[arg-type]
        framer = Framer(spec.image_size_px, spec.resize, 10**6)
        reader = FrameReader(stream, log, log.timeline(), framer, limits, Damage(), {})
    assert told < 2 <= reader._reorder_depth


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
    monkeypatch.setattr("service.decode.packets._KEEP_BYTES", 0)
    readers.clear()
    assert_same(decode_clip(path, spec, limits, n_threads=4), alone)
    assert len(set(readers)) == 1
