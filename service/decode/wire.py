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
from service.media import Clip, DecodeLimits, DecodeSpec, Track

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
    arrays = [array for array in (clip.frames, clip.waveform) if array is not None]
    header = {
        "has_frames": clip.frames is not None,
        "n_samples": None if clip.waveform is None else len(clip.waveform),
        "frame_times_s": clip.frame_times_s.tolist(),
        "duration_s": clip.duration_s,
        "visual": asdict(clip.visual),
        "audio": asdict(clip.audio),
        "warnings": clip.warnings,
        "n_frames_decoded": clip.n_frames_decoded,
    }
    send(sock, header, arrays)


def receive_clip(sock: socket.socket, spec: DecodeSpec, deadline: float) -> Clip:
    """Wait for the answer to a request.

    Raises:
        MediaError: The error that was sent.
        TimeoutError: At the deadline.
        EOFError: When the other side is gone.
    """
    header = receive(sock, deadline)
    try:
        return _clip(sock, header, spec, deadline)
    except (LookupError, TypeError, OverflowError) as error:  # an answer that makes no sense
        raise EOFError from error


_ERRORS: dict[str, type[MediaError]] = {error.code: error for error in MediaError.__subclasses__()}


def _clip(sock: socket.socket, header: Header, spec: DecodeSpec, deadline: float) -> Clip:
    if "error" in header:
        raise _ERRORS.get(header["error"], DecodeCrashedError)(header["message"])
    size, n_samples = spec.image_size_px, header["n_samples"]
    if n_samples is not None and n_samples > spec.max_audio_s * spec.sample_rate_hz + 1:
        raise EOFError
    frames = np.empty((spec.n_frames, size, size, 3), np.uint8) if header["has_frames"] else None
    waveform = None if n_samples is None else np.empty(n_samples, np.float32)
    for array in (frames, waveform):
        if array is not None:
            _fill(sock, array.data.cast("B"), deadline)
    return Clip(
        frames=frames,
        frame_times_s=np.array(header["frame_times_s"], dtype=np.float64),
        waveform=waveform,
        duration_s=header["duration_s"],
        visual=Track(**header["visual"]),
        audio=Track(**header["audio"]),
        warnings=tuple(header["warnings"]),
        n_frames_decoded=header["n_frames_decoded"],
    )


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
