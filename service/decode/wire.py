"""What a decoding process and the service say to each other: a JSON header, then the arrays' bytes.

Nothing is pickled: a decoder that a hostile file took over can send wrong pictures, but no objects.
"""

import json
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import DecodeCrashedError, MediaError
from service.media import Clip, DecodeLimits, DecodeSpec, Segment, Track

_LENGTH = struct.Struct("!I")
_MAX_HEADER_BYTES = 1 << 20

Header = dict[str, Any]


def send(sock: socket.socket, header: Header, arrays: Sequence[npt.NDArray[Any]] = ()) -> None:
    """Send one message."""
    text = json.dumps(header).encode()
    sock.sendall(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        sock.sendall(array.data.cast("B"))


def receive(sock: socket.socket, deadline: float | None = None) -> Header:
    """Receive one message's header.

    Args:
        sock: The connection.
        deadline: `time.monotonic()` at which to give up; None waits for ever.

    Raises:
        TimeoutError: At the deadline.
        EOFError: When the other side is gone or does not speak this language.
    """
    prefix = bytearray(_LENGTH.size)
    _fill(sock, memoryview(prefix), deadline)
    (length,) = _LENGTH.unpack(prefix)
    if length > _MAX_HEADER_BYTES:
        raise EOFError
    text = bytearray(length)
    _fill(sock, memoryview(text), deadline)
    return dict(json.loads(text))


def request(path: Path, spec: DecodeSpec, limits: DecodeLimits) -> Header:
    """The header that asks for a clip."""
    return {"path": str(path.absolute()), "spec": asdict(spec), "limits": asdict(limits)}


def parse_request(header: Header) -> tuple[Path, DecodeSpec, DecodeLimits]:
    """The other side of `request`."""
    return Path(header["path"]), DecodeSpec(**header["spec"]), DecodeLimits(**header["limits"])


def send_error(sock: socket.socket, error: MediaError) -> None:
    """Answer with an error."""
    send(sock, {"error": error.code, "message": error.message})


def send_clip(sock: socket.socket, clip: Clip) -> None:
    """Answer with a clip."""
    sound = clip.waveform if clip.sound is None else clip.sound
    arrays = [clip.frames, sound, *(segment.frames for segment in clip.segments)]
    header = {
        "has_frames": clip.frames is not None,
        "n_samples": None if clip.waveform is None else len(clip.waveform),
        "n_sound": None if clip.sound is None else len(clip.sound),
        "frame_times_s": clip.frame_times_s.tolist(),
        "duration_s": clip.duration_s,
        "visual": asdict(clip.visual),
        "audio": asdict(clip.audio),
        "warnings": clip.warnings,
        "n_frames_decoded": clip.n_frames_decoded,
        "segments": [_segment_header(segment) for segment in clip.segments],
    }
    send(sock, header, [array for array in arrays if array is not None])


def _segment_header(segment: Segment) -> Header:
    return {
        "start_s": segment.start_s,
        "end_s": segment.end_s,
        "has_frames": segment.frames is not None,
        "sound": segment.sound,
        "visual": asdict(segment.visual),
        "audio": asdict(segment.audio),
    }


def receive_clip(sock: socket.socket, spec: DecodeSpec, limits: DecodeLimits, deadline: float) -> Clip:
    """Wait for the answer to a request.

    Raises:
        MediaError: The error that was sent.
        TimeoutError: At the deadline.
        EOFError: When the other side is gone.
    """
    header = receive(sock, deadline)
    if "error" in header:
        raise _ERRORS.get(header["error"], DecodeCrashedError)(header["message"])
    try:
        _check_sizes(header, spec, limits)
        return _clip(sock, header, spec, deadline)
    except (LookupError, TypeError, OverflowError) as error:  # an answer that makes no sense
        raise EOFError from error


_ERRORS: dict[str, type[MediaError]] = {error.code: error for error in MediaError.__subclasses__()}


def _check_sizes(header: Header, spec: DecodeSpec, limits: DecodeLimits) -> None:
    """Believe no answer that is larger than what was asked for: nothing is allocated for it."""
    n_samples, n_sound = header["n_samples"], header["n_sound"]
    longest_s = max(spec.max_audio_s, 0 if spec.segment_s is None else limits.max_duration_s)
    if max(n_samples or 0, n_sound or 0) > longest_s * spec.sample_rate_hz + 1:
        raise EOFError
    if len(header["segments"]) > (0 if spec.segment_s is None else limits.max_segments):
        raise EOFError
    for first, stop in (part["sound"] for part in header["segments"] if part["sound"] is not None):
        if not 0 <= first < stop <= n_sound:
            raise EOFError


def _clip(sock: socket.socket, header: Header, spec: DecodeSpec, deadline: float) -> Clip:
    n_samples, n_sound = header["n_samples"], header["n_sound"]
    frames = _receive_frames(sock, header, spec.n_frames, spec, deadline)
    sound = None
    if n_samples is not None or n_sound is not None:
        sound = np.empty(n_samples if n_sound is None else n_sound, np.float32)
        _fill(sock, sound.data.cast("B"), deadline)
    return Clip(
        frames=frames,
        frame_times_s=np.array(header["frame_times_s"], dtype=np.float64),
        waveform=None if sound is None or n_samples is None else sound[:n_samples],
        duration_s=header["duration_s"],
        visual=Track(**header["visual"]),
        audio=Track(**header["audio"]),
        warnings=tuple(header["warnings"]),
        n_frames_decoded=header["n_frames_decoded"],
        segments=tuple(_segment(sock, part, spec, deadline) for part in header["segments"]),
        sound=None if n_sound is None else sound,
    )


def _segment(sock: socket.socket, header: Header, spec: DecodeSpec, deadline: float) -> Segment:
    samples = header["sound"]
    return Segment(
        start_s=header["start_s"],
        end_s=header["end_s"],
        frames=_receive_frames(sock, header, spec.n_segment_frames, spec, deadline),
        sound=None if samples is None else (samples[0], samples[1]),
        visual=Track(**header["visual"]),
        audio=Track(**header["audio"]),
    )


def _receive_frames(
    sock: socket.socket, header: Header, n_frames: int, spec: DecodeSpec, deadline: float
) -> npt.NDArray[np.uint8] | None:
    if not header["has_frames"]:
        return None
    frames = np.empty((n_frames, spec.image_size_px, spec.image_size_px, 3), np.uint8)
    _fill(sock, frames.data.cast("B"), deadline)
    return frames


def _fill(sock: socket.socket, buffer: memoryview, deadline: float | None) -> None:
    """Receive exactly as many bytes as the buffer has."""
    while buffer:
        if deadline is not None:
            # Zero would mean "do not block", which fails with another error.
            sock.settimeout(max(deadline - time.monotonic(), 1e-6))
        n_bytes = sock.recv_into(buffer)
        if n_bytes == 0:
            raise EOFError
        buffer = buffer[n_bytes:]
