"""Open an untrusted file, choose its streams, read their packets, and limit damage to where it is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeVar, cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from service.decode.clock import Clock
from service.decode.formats import (
    ANIMATION_CONTAINERS,
    AUDIO_DECODERS,
    BEGIN_ANYWHERE,
    HEAD_BYTES,
    IMAGE_CONTAINERS,
    JPEG_START,
    MAY_JUMP,
    VIDEO_DECODERS,
    animated_webp,
    explain_unreadable,
    is_animated_webp,
    is_heif,
    open_options,
    tiled_image,
)
from service.errors import AhseError, ClipTooLargeError, EmptyFileError, NotMediaError
from service.media import DecodeLimits, Track

# Errors that PyAV raises for bad content: those of FFmpeg, but also plain ValueError and OverflowError.
UNREADABLE = (FFmpegError, ValueError, OverflowError)

# Packets in a row that may not be understood where a format may begin anywhere.
_MOST_FAILURES = 100

Part = Literal["file", "picture", "sound"]
AnyStream = TypeVar("AnyStream", bound=Stream)


class Damage:
    """What the content of one file makes the libraries raise. What else is in the file is still used.

    Attributes:
        counts: Number of steps that failed, by the part of the file that they read.
    """

    def __init__(self) -> None:
        self.counts: Counter[Part] = Counter()
        self._unexpected: Exception | None = None

    @contextmanager
    def kept_to(self, part: Part) -> Iterator[None]:
        """Run a step of reading the file. An error ends this step only."""
        try:
            yield
        except AhseError:  # the verdict on the whole clip
            raise
        except MemoryError as error:
            # That of the whole process, unless FFmpeg was asked for a packet that only claims to be huge.
            if part == "picture" or not isinstance(error, FFmpegError):
                raise
            self.counts[part] += 1
        except UNREADABLE:
            self.counts[part] += 1
        except Exception as error:  # noqa: BLE001 - nobody can list what content makes the libraries raise
            self.counts[part] += 1
            self._unexpected = self._unexpected or error

    def raise_unexpected(self) -> None:
        """Raise the first error that is not one of bad content. For a file of which nothing can be used."""
        if self._unexpected is not None:
            raise self._unexpected


@dataclass(frozen=True)
class Source:
    """An open container and the streams to decode.

    Attributes:
        container: The open file; closed by `open_source`.
        video_stream: The stream of the visual track; None where there is none that can be decoded.
        audio_stream: The stream of the audio track; None where there is none that can be decoded.
        visual_track: Report on the video stream, or why there is none.
        audio_track: Report on the audio stream, or why there is none.
        file: The file.
        options: What it was opened with.
        is_heif: Whether it is an AVIF or HEIF image.
    """

    container: InputContainer
    video_stream: VideoStream | None
    audio_stream: AudioStream | None
    visual_track: Track
    audio_track: Track
    file: BinaryIO
    options: Mapping[str, str]
    is_heif: bool

    @property
    def wanted(self) -> tuple[Stream, ...]:
        """The streams to demux."""
        return tuple(stream for stream in (self.video_stream, self.audio_stream) if stream is not None)

    @property
    def audio_length_s(self) -> float:
        """Length of the audio stream as the file states it, which may be wrong; 0 where it does not."""
        stream = self.audio_stream
        if stream is not None and stream.duration is not None:
            return float(stream.duration * (stream.time_base or 1))
        return (self.container.duration or 0) / av.time_base

    @property
    def has_late_track(self) -> bool:
        """Whether a track is missing of which demuxing came upon a stream that was unknown at opening."""
        return (self.video_stream is None and _is_late(self.container, "video")) or (
            self.audio_stream is None and _is_late(self.container, "audio")
        )

    @property
    def is_image(self) -> bool:
        """Whether this is a still image, of which the first packet is all there is to read."""
        return self.is_heif or self.container.format.name in IMAGE_CONTAINERS

    @property
    def is_animation(self) -> bool:
        """Whether this is an image that may be animated: with a single frame it is a still image."""
        return self.container.format.name in ANIMATION_CONTAINERS

    @contextmanager
    def again(self, stream: AnyStream) -> Iterator[tuple[AnyStream, Iterator[Packet[AnyStream]]]]:
        """Open the file a second time, for one of its streams and its packets, with the same times."""
        with _open(self.file, self.options) as container:
            # Where clocks jump, the others tell by how much.
            needed = self.wanted if container.format.name in MAY_JUMP else (stream,)
            _discard_others(container, {one.index for one in needed})
            found = packets(container, [container.streams[one.index] for one in needed])
            its = (packet for packet in found if packet.stream_index == stream.index)
            yield cast("AnyStream", container.streams[stream.index]), cast("Iterator[Packet[AnyStream]]", its)


def _is_late(container: InputContainer, kind: Literal["video", "audio"]) -> bool:
    """PyAV lists the streams when it opens a file. FFmpeg's list grows, and its best may be missing there."""
    try:
        container.streams.best(kind)
    except IndexError:
        return True
    return False


@contextmanager
def open_source(file: BinaryIO, limits: DecodeLimits, *, probe_all: bool = False) -> Iterator[Source]:
    """Open a media file and choose its streams.

    Args:
        file: The file, without a buffer. Nothing else may move its position meanwhile.
        limits: Limits on the number of streams and on the pixels of a frame.
        probe_all: Whether to look for streams in the whole file, which FFmpeg then keeps in memory. By
            default it looks at the first 5 MB of a file whose header does not list them.

    Raises:
        MediaError: The content can't be opened or exceeds a limit.
    """
    size_bytes = _size_bytes(file)
    if size_bytes == 0:
        raise EmptyFileError("The file is empty. Send a video or audio clip, or an image.")
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if is_animated_webp(head):
        raise animated_webp()
    # While it looks for streams, FFmpeg decodes frames, which must not be too large either.
    options = open_options(head) | {"max_pixels": str(limits.max_frame_pixels)}
    if probe_all:
        duration_us = round(limits.max_duration_s * 1e6)
        options |= {"probesize": str(max(size_bytes, 32)), "analyzeduration": str(duration_us)}
    heif = is_heif(head)
    with _open(file, options) as container:
        # First, since each tile is a stream.
        if heif and _is_tiled(container):
            raise tiled_image()
        if len(container.streams) > limits.max_streams:
            raise NotMediaError(
                f"The file has more than {limits.max_streams} streams. Send an ordinary clip."
            )
        yield _choose(container, file, options, limits, heif=heif)


def packets(container: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet[Stream]]:
    """Demux streams, without the empty packets that mark their ends in PyAV: decoders are flushed elsewhere.

    Their timestamps are of a clock that goes on (see `Clock`). A stream that was cut out of a longer one may
    begin with packets that are not understood; the error of the last of these comes at the end.
    After the last packet PyAV may look up a stream that was unknown when the file was opened. The IndexError
    that this gives is not damage: see `Source.has_late_track`.
    """
    clock, n_failed, failure = Clock(container.format.name), 0, None
    while True:
        try:
            for packet in container.demux(streams):
                n_failed = 0
                if packet.size:
                    clock.correct(packet)
                    yield packet
            break
        except IndexError:
            break
        except InvalidDataError as error:
            failure, n_failed = error, n_failed + 1
            if container.format.name not in BEGIN_ANYWHERE or n_failed > _MOST_FAILURES:
                break
    if failure is not None:
        raise failure


@contextmanager
def _open(file: BinaryIO, options: Mapping[str, str]) -> Iterator[InputContainer]:
    """Open a file by its descriptor: a process in the sandbox can't open it by its name.

    FFmpeg duplicates the descriptor, and all duplicates share one position. So a second container must be
    closed before the first is read again; then the position is again where the first expects it.
    """
    position = file.tell()
    file.seek(0)
    try:
        with _container(file, options) as container:
            yield container
    finally:
        file.seek(position)


def _container(file: BinaryIO, options: Mapping[str, str]) -> InputContainer:
    options = {**options, "fd": str(file.fileno())}
    # FFmpeg does not recognise JPEG before another one, such as the gain map of an HDR photo.
    is_jpeg = file.read(len(JPEG_START)) == JPEG_START
    file.seek(0)
    try:
        return av.open(
            "fd:", "r", "jpeg_pipe" if is_jpeg else None, options=options, metadata_errors="replace"
        )
    except UNREADABLE as error:
        file.seek(0)
        raise explain_unreadable(file, _size_bytes(file)) from error


def _size_bytes(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _is_tiled(container: InputContainer) -> bool:
    """Whether none of the images of a HEIF file is the whole picture."""
    images = container.streams.video
    return len(images) > 0 and not any(image.disposition & Disposition.default for image in images)


def _choose(
    container: InputContainer, file: BinaryIO, options: Mapping[str, str], limits: DecodeLimits, *, heif: bool
) -> Source:
    video, visual_track = _choose_video(container)
    audio, audio_track = _choose_audio(container, video)
    if video is not None:
        size = video.width, video.height
        if audio is None and not all(size):
            size = _size_in_header(file, options, video.index)
        _check_size(*size, limits)
    _discard_others(container, {stream.index for stream in (video, audio) if stream is not None})
    return Source(container, video, audio, visual_track, audio_track, file, options, heif)


def _choose_video(container: InputContainer) -> tuple[VideoStream | None, Track]:
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        covered = bool(container.streams.video)
        return None, Track(
            used=False, reason="no_stream", detail="only a cover picture" if covered else "no video stream"
        )
    usable = [s for s in streams if _decoder(s) in VIDEO_DECODERS]
    if not usable:
        return None, Track(used=False, reason="undecodable", detail="video codec not supported")
    best = container.streams.best("video")
    stream = next((s for s in usable if best is not None and s.index == best.index), usable[0])
    size = f" {stream.width}x{stream.height}" if stream.width else ""  # a stream may tell it later
    return stream, Track(used=True, detail=f"{stream.codec_context.name}{size}")


def _choose_audio(container: InputContainer, video: VideoStream | None) -> tuple[AudioStream | None, Track]:
    """The best stream of the picture's programme, if it has one: the recording of a multiplex has several."""
    streams = container.streams.audio
    if not streams:
        return None, Track(used=False, reason="no_stream", detail="no audio stream")
    usable = [s for s in streams if _decoder(s) in AUDIO_DECODERS]
    if not usable:
        return None, Track(used=False, reason="undecodable", detail="audio codec not supported")
    best = container.streams.best("audio", related=video)
    stream = next((s for s in usable if best is not None and s.index == best.index), usable[0])
    rate = f" {stream.codec_context.sample_rate} Hz" if stream.codec_context.sample_rate else ""
    return stream, Track(used=True, detail=f"{stream.codec_context.name}{rate}")


def _decoder(stream: Stream) -> str | None:
    """Name of the decoder; None when FFmpeg has none: PyAV then gives no context, whatever its types say."""
    context: object = stream.codec_context
    return None if context is None else stream.codec_context.name


def _size_in_header(file: BinaryIO, options: Mapping[str, str], index: int) -> tuple[int, int]:
    """Width and height of the frames of a stream as the file has them, 0 where it has none.

    A decoder that refuses frames for their size also resets both to 0, so no decoder is opened here.
    """
    with _open(file, {**options, "codec_whitelist": "none"}) as container:
        sizes = {stream.index: (stream.width, stream.height) for stream in container.streams.video}
        return sizes.get(index, (0, 0))


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    if width * height > limits.max_frame_pixels:
        raise ClipTooLargeError(
            f"A frame has {width} x {height} pixels; at most {limits.max_frame_pixels} are "
            "allowed. Scale the clip down and send it again."
        )


def _discard_others(container: InputContainer, wanted: set[int]) -> None:
    for stream in container.streams:
        if stream.index not in wanted:
            stream.discard = Discard.all
