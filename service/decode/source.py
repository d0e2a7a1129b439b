"""Opening an untrusted file: only real containers, and every failure as one of our own errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from service.decode.allowed import AUDIO_DECODERS, OPEN_OPTIONS, VIDEO_DECODERS
from service.decode.sniff import HEAD_BYTES, explain_unreadable, is_heif, still_image
from service.errors import ClipTooLargeError, EmptyFileError, MediaError, NotMediaError
from service.media import DecodeLimits, Track

# What PyAV raises for bad content: FFmpeg's errors, but also plain ValueError and OverflowError.
UNREADABLE = (FFmpegError, ValueError, OverflowError)


@dataclass(frozen=True)
class Source:
    """An open container and the streams of it that are worth decoding.

    Attributes:
        container: The open file; closed by `open_source`.
        video: The picture's stream; None with the reason in `visual`.
        audio: The sound's stream; None with the reason in `sound`.
        visual: Why there is no picture, or which stream it is.
        sound: Why there is no sound, or which stream it is.
    """

    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    visual: Track
    sound: Track

    @property
    def wanted(self) -> tuple[Stream, ...]:
        """The streams to demux."""
        return tuple(stream for stream in (self.video, self.audio) if stream is not None)


@contextmanager
def open_source(path: Path, limits: DecodeLimits) -> Iterator[Source]:
    """Open a media file and choose its streams.

    Args:
        path: The file. Its name means nothing; only its content is looked at.
        limits: The caps on streams and on the pixels of a frame.

    Raises:
        MediaError: When the content cannot be opened or is over a limit.
    """
    if path.stat().st_size == 0:
        raise EmptyFileError("The file is empty. Send a video or audio clip.")
    _refuse_pictures(path)
    with _open(path) as container:
        if len(container.streams) > limits.max_streams:
            raise NotMediaError(
                f"The file has more than {limits.max_streams} streams. Send an ordinary clip."
            )
        yield _choose(container, limits)


def open_again(path: Path, stream_index: int) -> InputContainer:
    """Open a file that was read before, to demux one of its streams once more."""
    container = _open(path)
    _discard_others(container, {stream_index})
    return container


def _refuse_pictures(path: Path) -> None:
    with path.open("rb") as file:
        if is_heif(file.read(HEAD_BYTES)):
            raise still_image()


def _open(path: Path) -> InputContainer:
    try:
        # "file:" keeps a colon in the path from being read as a protocol.
        return av.open(f"file:{path}", "r", options=dict(OPEN_OPTIONS), metadata_errors="replace")
    except UNREADABLE as error:
        raise _unreadable(path) from error


def _unreadable(path: Path) -> MediaError:
    with path.open("rb") as file:
        return explain_unreadable(file, path.stat().st_size)


def _choose(container: InputContainer, limits: DecodeLimits) -> Source:
    video, visual = _choose_video(container)
    audio, sound = _choose_audio(container)
    if video is not None:
        _check_size(video, limits)
    _discard_others(container, {stream.index for stream in (video, audio) if stream is not None})
    return Source(container, video, audio, visual, sound)


def _choose_video(container: InputContainer) -> tuple[VideoStream | None, Track]:
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures:
        covered = bool(container.streams.video)
        return None, Track(
            used=False, reason="no_stream", detail="only a cover picture" if covered else "no video stream"
        )
    usable = [s for s in pictures if _decoder(s) in VIDEO_DECODERS]
    if not usable:
        return None, Track(used=False, reason="undecodable", detail="video codec not supported")
    best = container.streams.best("video")
    stream = next((s for s in usable if best is not None and s.index == best.index), usable[0])
    return stream, Track(used=True, detail=f"{stream.codec_context.name} {stream.width}x{stream.height}")


def _choose_audio(container: InputContainer) -> tuple[AudioStream | None, Track]:
    sounds = container.streams.audio
    if not sounds:
        return None, Track(used=False, reason="no_stream", detail="no audio stream")
    usable = [s for s in sounds if _decoder(s) in AUDIO_DECODERS]
    if not usable:
        return None, Track(used=False, reason="undecodable", detail="audio codec not supported")
    best = container.streams.best("audio")
    stream = next((s for s in usable if best is not None and s.index == best.index), usable[0])
    return stream, Track(
        used=True, detail=f"{stream.codec_context.name} {stream.codec_context.sample_rate} Hz"
    )


def _decoder(stream: Stream) -> str | None:
    """The decoder's name; None when FFmpeg has none (then there is no context, whatever the types say)."""
    context: object = stream.codec_context
    return None if context is None else stream.codec_context.name


def _check_size(stream: VideoStream, limits: DecodeLimits) -> None:
    if stream.width * stream.height > limits.max_frame_pixels:
        raise ClipTooLargeError(
            f"A frame has {stream.width} x {stream.height} pixels; at most {limits.max_frame_pixels} are "
            "allowed. Scale the clip down and send it again."
        )


def _discard_others(container: InputContainer, wanted: set[int]) -> None:
    for stream in container.streams:
        if stream.index not in wanted:
            stream.discard = Discard.all
