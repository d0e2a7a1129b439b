"""Open an untrusted file: which containers and codecs are allowed, and why a file is rejected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from service.errors import ClipTooLargeError, EmptyFileError, MediaError, NotMediaError, TruncatedMediaError
from service.media import DecodeLimits, Track

_CONTAINERS = (
    "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "flv", "mpegts", "mpeg", "asf",
    "ogg", "gif", "wav", "w64", "aiff", "caf", "au", "mp3", "flac", "aac", "ac3", "eac3", "amr", "amrnb",
    "amrwb",
)  # fmt: skip

VIDEO_DECODERS = frozenset((
    "h264", "hevc", "vvc", "libdav1d", "av1", "libvpx-vp8", "libvpx-vp9", "vp8", "vp9", "vp6", "vp6f",
    "mpeg1video", "mpeg2video", "mpegvideo", "mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "h263",
    "h263p", "flv", "theora", "wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "prores", "dnxhd", "dvvideo",
    "ffv1", "huffyuv", "ffvhuff", "utvideo", "cinepak", "indeo3", "indeo4", "indeo5", "svq1", "svq3",
    "qtrle", "rawvideo", "gif",
))  # fmt: skip

AUDIO_DECODERS = frozenset((
    "aac", "aac_latm", "mp1float", "mp2float", "mp2", "mp3float", "mp3", "mp3on4float", "opus", "libopus",
    "vorbis", "libvorbis", "flac", "alac", "ac3", "eac3", "dca", "amrnb", "amrwb", "libopencore_amrnb",
    "libopencore_amrwb", "wmav1", "wmav2", "wmapro", "nellymoser", "libspeex", "speex", "gsm", "gsm_ms",
    "qdm2", "mace6", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le",
    "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw",
    "pcm_bluray", "pcm_dvd", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_swf", "adpcm_yamaha",
    "adpcm_g726", "g722",
))  # fmt: skip

OPEN_OPTIONS = {
    "format_whitelist": ",".join(_CONTAINERS),
    "codec_whitelist": ",".join(sorted(VIDEO_DECODERS | AUDIO_DECODERS)),
    "protocol_whitelist": "file",
}


HEAD_BYTES = 64
_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS")
_HEIF_BRANDS = (b"avif", b"heic", b"heix", b"mif1")
_LIST_STARTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0", b"[playlist]")
# More than the number of top-level boxes before the index in any real file.
_MAX_BOXES = 64


def explain_unreadable(file: BinaryIO, size_bytes: int) -> MediaError:
    """The error for a file that FFmpeg can't open, chosen by its first bytes.

    Args:
        file: The file, at its start.
        size_bytes: Size of the file.
    """
    head = file.read(HEAD_BYTES)
    if head.startswith(_IMAGE_STARTS) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return still_image()
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_LIST_STARTS):
        return NotMediaError(
            "This is a playlist or a description that points to media. Send the clip itself."
        )
    if head[4:8] == b"ftyp" and not _has_index(file, size_bytes):
        return TruncatedMediaError(
            "The clip ends before its index: the file was cut short. Send it again, whole."
        )
    return NotMediaError(
        "This is not a clip that can be read, or it is damaged. "
        "Send MP4, MOV, WebM, MKV, AVI, MPEG, GIF, WAV, MP3, FLAC, Ogg or AAC."
    )


def is_heif(head: bytes) -> bool:
    """Whether a file starts like an AVIF or HEIF image, which FFmpeg would open as an MP4 clip."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def still_image() -> NotMediaError:
    """The error for a still image."""
    return NotMediaError("This is a still image. Send a video or audio clip; an animated GIF also works.")


def _has_index(file: BinaryIO, size_bytes: int) -> bool:
    """Whether an MP4 file has a `moov` box, found by walking over the top-level boxes."""
    position = 0
    for _ in range(_MAX_BOXES):
        # Before it is sought: a length of 64 bits may lead further than any file can be.
        if position >= size_bytes:
            return False
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return False
        if header[4:8] == b"moov":
            return True
        length = int.from_bytes(header[:4])
        if length == 1 and len(header) == 16:
            length = int.from_bytes(header[8:16])
        if length < 8:
            return False
        position += length
    return False


# Errors that PyAV raises for bad content: those of FFmpeg, but also plain ValueError and OverflowError.
UNREADABLE = (FFmpegError, ValueError, OverflowError)


@dataclass(frozen=True)
class Source:
    """An open container and the streams to decode.

    Attributes:
        container: The open file; closed by `open_source`.
        video_stream: The stream of the visual track; None where there is none that can be decoded.
        audio_stream: The stream of the audio track; None where there is none that can be decoded.
        visual_track: Report on the video stream, or why there is none.
        audio_track: Report on the audio stream, or why there is none.
    """

    container: InputContainer
    video_stream: VideoStream | None
    audio_stream: AudioStream | None
    visual_track: Track
    audio_track: Track

    @property
    def wanted(self) -> tuple[Stream, ...]:
        """The streams to demux."""
        return tuple(stream for stream in (self.video_stream, self.audio_stream) if stream is not None)


@contextmanager
def open_source(path: Path, limits: DecodeLimits) -> Iterator[Source]:
    """Open a media file and choose its streams.

    Args:
        path: The file; only its content matters, not its name.
        limits: Limits on the number of streams and on the pixels of a frame.

    Raises:
        MediaError: The content can't be opened or exceeds a limit.
    """
    if path.stat().st_size == 0:
        raise EmptyFileError("The file is empty. Send a video or audio clip.")
    _reject_images(path)
    with _open(path) as container:
        if len(container.streams) > limits.max_streams:
            raise NotMediaError(
                f"The file has more than {limits.max_streams} streams. Send an ordinary clip."
            )
        yield _choose(container, limits)


def open_again(path: Path, stream_index: int) -> InputContainer:
    """Open a file a second time, to demux one of its streams again."""
    container = _open(path)
    _discard_others(container, {stream_index})
    return container


def _reject_images(path: Path) -> None:
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
    video, visual_track = _choose_video(container)
    audio, audio_track = _choose_audio(container)
    if video is not None:
        _check_size(video, limits)
    _discard_others(container, {stream.index for stream in (video, audio) if stream is not None})
    return Source(container, video, audio, visual_track, audio_track)


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
    return stream, Track(used=True, detail=f"{stream.codec_context.name} {stream.width}x{stream.height}")


def _choose_audio(container: InputContainer) -> tuple[AudioStream | None, Track]:
    streams = container.streams.audio
    if not streams:
        return None, Track(used=False, reason="no_stream", detail="no audio stream")
    usable = [s for s in streams if _decoder(s) in AUDIO_DECODERS]
    if not usable:
        return None, Track(used=False, reason="undecodable", detail="audio codec not supported")
    best = container.streams.best("audio")
    stream = next((s for s in usable if best is not None and s.index == best.index), usable[0])
    return stream, Track(
        used=True, detail=f"{stream.codec_context.name} {stream.codec_context.sample_rate} Hz"
    )


def _decoder(stream: Stream) -> str | None:
    """Name of the decoder; None when FFmpeg has none: PyAV then gives no context, whatever its types say."""
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
