"""The protocol between the service and a decoding process: a JSON header, then the bytes of the arrays.

    service -> process   {spec, limits, n_threads}, then one byte that carries the open file
    process -> service   if there is sound, its sizes followed by its arrays, as soon as it is decoded;
                         then {error, message, trace}, or the other fields of the clip followed by their
                         arrays: the frames, then those of each segment

Nothing is pickled, and sizes are checked before memory is allocated: a decoding process that a hostile file
took over can send wrong pictures, but it can neither run code in the service nor exhaust its memory.
"""

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from service.decode.messages import MAX_HEADER_BYTES, Patience, fill, receive, receive_text, send
from service.errors import DecodeCrashedError, MediaError
from service.media import Clip, ClipSound, DecodeLimits, DecodeSpec, OnSound, Segment, Track

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# The end of a traceback says what happened.
_MAX_TRACE_CHARACTERS = 2_000
# Of the warnings and reports of a clip, some sentences, and of each segment, one for each track.
_CLIP_CHARACTERS, _SEGMENT_CHARACTERS = 10_000, 200
# Of a segment in a header: these, and at most a dozen numbers.
_SEGMENT_BYTES = 1_000


def send_request(
    sock: socket.socket, file: BinaryIO, spec: DecodeSpec, limits: DecodeLimits, n_threads: int
) -> None:
    """Ask for a clip.

    Args:
        sock: The connection, a Unix socket.
        file: The file, open for reading; the process gets a descriptor of it, and no name.
        spec: What the model needs.
        limits: Limits on the cost of the clip.
        n_threads: That may decode frames at once.
    """
    send(sock, {"spec": asdict(spec), "limits": asdict(limits), "n_threads": n_threads})
    socket.send_fds(sock, [b"\0"], [file.fileno()])


def receive_request(sock: socket.socket) -> tuple[BinaryIO, DecodeSpec, DecodeLimits, int]:
    """The other end of `send_request`: the arguments. The caller closes the file, which has no buffer."""
    header = receive(sock)
    _, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
    if not descriptors:
        raise EOFError
    file = os.fdopen(descriptors[0], "rb", buffering=0)
    return file, DecodeSpec(**header["spec"]), DecodeLimits(**header["limits"]), header["n_threads"]


@dataclass(frozen=True)
class _ErrorHeader:
    error: str
    message: str
    trace: str


# Read by pydantic: a time that is no number would stop later steps.
_FINITE = {"allow_inf_nan": False}


@dataclass(frozen=True)
class _SegmentHeader:
    __pydantic_config__ = _FINITE

    start_s: float
    end_s: float
    has_frames: bool
    frame_times_s: list[float]
    audio_samples: tuple[int, int] | None
    visual: Track
    audio: Track


@dataclass(frozen=True)
class _ClipHeader:
    __pydantic_config__ = _FINITE

    has_frames: bool
    frame_times_s: list[float]
    duration_s: float
    visual: Track
    audio: Track
    warnings: tuple[str, ...]
    n_frames_decoded: int
    at_key_frames: bool
    segments: tuple[_SegmentHeader, ...]


@dataclass(frozen=True)
class _SoundHeader:
    __pydantic_config__ = _FINITE

    n_samples: int | None
    n_full_samples: int | None
    window_starts_s: tuple[float, ...]

    @property
    def is_part(self) -> bool:
        """Whether the waveform is the beginning of all the sound, which is then sent alone."""
        return self.n_full_samples is not None and not self.window_starts_s


def send_error(sock: socket.socket, error: MediaError, trace: str = "") -> None:
    """Answer a request with an error.

    Args:
        sock: The connection.
        error: The error.
        trace: The traceback of what caused it, for the log of the service.
    """
    send(sock, asdict(_ErrorHeader(error.code, error.message, trace[-_MAX_TRACE_CHARACTERS:])))


def send_sound(sock: socket.socket, sound: ClipSound) -> None:
    """Answer a request with the sound of the clip; the clip or an error follows."""
    waveform, full = sound.waveform, sound.full_waveform
    header = _SoundHeader(
        n_samples=None if waveform is None else len(waveform),
        n_full_samples=None if full is None else len(full),
        window_starts_s=sound.window_starts_s,
    )
    arrays = [None if header.is_part else waveform, full]
    send(sock, asdict(header), [array for array in arrays if array is not None])


def send_clip(sock: socket.socket, clip: Clip) -> None:
    """Answer a request with a clip, without its sound."""
    arrays = [clip.frames, *(segment.frames for segment in clip.segments)]
    header = _ClipHeader(
        has_frames=clip.frames is not None,
        frame_times_s=clip.frame_times_s.tolist(),
        duration_s=clip.duration_s,
        visual=clip.visual,
        audio=clip.audio,
        warnings=clip.warnings,
        n_frames_decoded=clip.n_frames_decoded,
        at_key_frames=clip.at_key_frames,
        segments=tuple(_segment_header(segment) for segment in clip.segments),
    )
    send(sock, asdict(header), [array for array in arrays if array is not None])


def _segment_header(segment: Segment) -> _SegmentHeader:
    return _SegmentHeader(
        start_s=segment.start_s,
        end_s=segment.end_s,
        has_frames=segment.frames is not None,
        frame_times_s=segment.frame_times_s.tolist(),
        audio_samples=segment.audio_samples,
        visual=segment.visual,
        audio=segment.audio,
    )


def receive_clip(
    sock: socket.socket, spec: DecodeSpec, limits: DecodeLimits, patience: Patience, on_sound: OnSound
) -> Clip:
    """Wait for the answer to a request.

    Args:
        sock: The connection.
        spec: The specification of the request.
        limits: The limits of the request.
        patience: How long to wait.
        on_sound: Called with the sound, if there is any, when it has come.

    Raises:
        MediaError: The process answered with this error.
        TimeoutError: Patience has run out.
        EOFError: The connection is closed, or the answer does not fit the request.
        ValueError: The answer is malformed.
    """
    header, sound = _receive_answer(sock, limits, patience), ClipSound(None)
    if isinstance(header, _SoundHeader):
        _check_sound(header, spec, limits)
        sound = _sound(sock, header, patience)
        on_sound(sound)
        header = _receive_answer(sock, limits, patience)
    if isinstance(header, _SoundHeader):
        raise EOFError
    _check_sizes(header, sound, spec, limits)
    return _clip(sock, header, sound, spec, patience)


def _receive_answer(
    sock: socket.socket, limits: DecodeLimits, patience: Patience
) -> "_SoundHeader | _ClipHeader":
    max_bytes = MAX_HEADER_BYTES + _SEGMENT_BYTES * limits.max_segments
    header = _answers().validate_json(receive_text(sock, patience, max_bytes), strict=True)
    if isinstance(header, _ErrorHeader):
        cause = RuntimeError(header.trace) if header.trace else None
        raise _ERRORS.get(header.error, DecodeCrashedError)(header.message) from cause
    return header


_ERRORS: dict[str, type[MediaError]] = {error.code: error for error in MediaError.__subclasses__()}


@cache
def _answers() -> "TypeAdapter[_ErrorHeader | _SoundHeader | _ClipHeader]":
    """Checks every type in an answer; its error is a ValueError."""
    # Imported here: a decoding process, which imports this file too, does without.
    from pydantic import TypeAdapter

    return TypeAdapter(_ErrorHeader | _SoundHeader | _ClipHeader)


def _check_sound(header: _SoundHeader, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Reject sound that is larger than the request allows, before anything is allocated for it."""
    n_full = header.n_full_samples or 0
    n_most = max(spec.whole_samples, n_full)
    if starts_s := header.window_starts_s:
        n_most = spec.n_windows * spec.window_samples
        if header.n_samples != len(starts_s) * spec.window_samples:
            raise EOFError
        if not all(0 <= start_s <= limits.max_duration_s for start_s in starts_s):
            raise EOFError
    if 0 in (header.n_samples, header.n_full_samples):
        raise EOFError
    if not 0 <= (header.n_samples or 0) <= n_most or n_full > spec.full_samples(limits):
        raise EOFError


def _check_sizes(header: _ClipHeader, sound: ClipSound, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Reject a clip that is larger than the request allows, or whose segments lie outside of its sound.

    Sizes of frames need no check: they follow from the specification.
    """
    # Kept with the features of the clip, so nothing may be as long as it likes.
    texts = [*header.warnings, header.visual.detail, header.audio.detail]
    texts += [track.detail for one in header.segments for track in (one.visual, one.audio)]
    max_characters = _CLIP_CHARACTERS + _SEGMENT_CHARACTERS * limits.max_segments
    if len(header.frame_times_s) > spec.n_frames or sum(map(len, texts)) > max_characters:
        raise EOFError
    if len(header.segments) > (0 if spec.segment_s is None else limits.max_segments):
        raise EOFError
    if any(len(segment.frame_times_s) > spec.n_segment_frames for segment in header.segments):
        raise EOFError
    n_full = 0 if sound.full_waveform is None else len(sound.full_waveform)
    ranges = [segment.audio_samples for segment in header.segments]
    if not all(0 <= first < stop <= n_full for first, stop in filter(None, ranges)):
        raise EOFError


def _sound(sock: socket.socket, header: _SoundHeader, patience: Patience) -> ClipSound:
    # The socket must be read in the order of `send_sound`.
    waveform = None if header.is_part else _receive_samples(sock, header.n_samples, patience)
    full = _receive_samples(sock, header.n_full_samples, patience)
    if header.is_part and full is not None and header.n_samples is not None:
        waveform = full[: header.n_samples]
    return ClipSound(waveform, full, header.window_starts_s)


def _clip(
    sock: socket.socket, header: _ClipHeader, sound: ClipSound, spec: DecodeSpec, patience: Patience
) -> Clip:
    # The socket must be read in the order of `send_clip`.
    return Clip(
        frames=_receive_frames(sock, header, spec.n_frames, spec, patience),
        frame_times_s=np.array(header.frame_times_s, dtype=np.float64),
        waveform=sound.waveform,
        duration_s=header.duration_s,
        visual=header.visual,
        audio=header.audio,
        warnings=header.warnings,
        n_frames_decoded=header.n_frames_decoded,
        at_key_frames=header.at_key_frames,
        segments=tuple(_segment(sock, part, spec, patience) for part in header.segments),
        full_waveform=sound.full_waveform,
        window_starts_s=sound.window_starts_s,
    )


def _segment(sock: socket.socket, header: _SegmentHeader, spec: DecodeSpec, patience: Patience) -> Segment:
    return Segment(
        start_s=header.start_s,
        end_s=header.end_s,
        frames=_receive_frames(sock, header, spec.n_segment_frames, spec, patience),
        frame_times_s=np.array(header.frame_times_s, dtype=np.float64),
        audio_samples=header.audio_samples,
        visual=header.visual,
        audio=header.audio,
    )


def _receive_samples(
    sock: socket.socket, n_samples: int | None, patience: Patience
) -> npt.NDArray[np.float32] | None:
    if n_samples is None:
        return None
    samples = np.empty(n_samples, np.float32)
    fill(sock, samples.data.cast("B"), patience)
    return samples


def _receive_frames(
    sock: socket.socket,
    header: _ClipHeader | _SegmentHeader,
    n_frames: int,
    spec: DecodeSpec,
    patience: Patience,
) -> npt.NDArray[np.uint8] | None:
    if not header.has_frames:
        return None
    frames = np.empty((n_frames, spec.image_size_px, spec.image_size_px, 3), np.uint8)
    fill(sock, frames.data.cast("B"), patience)
    return frames
