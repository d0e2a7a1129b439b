"""An encoded clip as bytes, to be kept outside the process: a checksum, JSON with the facts, then the arrays.

Nothing is pickled, and what was not written here, or has changed since, is refused.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.encode.features import ClipFeatures
from service.encode.known_clips import EncodedClip
from service.media import Clip, Segment, Track

_LENGTH = struct.Struct("!I")
_CHECKSUM_BYTES = hashlib.sha256().digest_size

_Facts = dict[str, Any]
_AnyArray = npt.NDArray[Any]


def to_record(encoded: EncodedClip) -> bytes:
    """A clip without frames and waveforms as bytes; see `EncodedClip.without_arrays`."""
    arrays: list[bytes] = []
    text = json.dumps(_facts(encoded, arrays)).encode()
    content = b"".join([_LENGTH.pack(len(text)), text, *arrays])
    return hashlib.sha256(content).digest() + content


def from_record(record: bytes) -> EncodedClip:
    """The clip that `to_record` was given, equal to the bit.

    Raises:
        ValueError: These are not the bytes that were written, or another version wrote them.
    """
    content = memoryview(record)[_CHECKSUM_BYTES:]
    if hashlib.sha256(content).digest() != record[:_CHECKSUM_BYTES]:
        raise ValueError("the record is damaged")
    (n_bytes,) = _LENGTH.unpack_from(content)
    end = _LENGTH.size + n_bytes
    try:
        return _encoded(json.loads(bytes(content[_LENGTH.size : end])), content[end:])
    except (KeyError, TypeError) as error:
        raise ValueError("the record has other fields") from error


def _facts(value: Any, arrays: list[bytes]) -> Any:
    """A value as JSON has it: a dataclass as its fields, an array as where it is among the arrays."""
    if isinstance(value, np.ndarray):
        start = sum(map(len, arrays))
        arrays.append(value.tobytes())
        return {"start": start, "n": len(value), "type": value.dtype.str}
    if isinstance(value, tuple):
        return [_facts(one, arrays) for one in value]
    if is_dataclass(value):
        return {field.name: _facts(getattr(value, field.name), arrays) for field in fields(value)}
    return value


def _encoded(facts: _Facts, data: memoryview) -> EncodedClip:
    made = {
        "clip": _clip(facts["clip"], data),
        "features": _features(facts["features"], data),
        "segments": tuple(_features(one, data) for one in facts["segments"]),
        "windows_s": tuple((start, end) for start, end in facts["windows_s"]),
    }
    return EncodedClip(**facts | made)


def _clip(facts: _Facts, data: memoryview) -> Clip:
    made = {
        "frame_times_s": _array(facts["frame_times_s"], data),
        "visual": Track(**facts["visual"]),
        "audio": Track(**facts["audio"]),
        "warnings": tuple(facts["warnings"]),
        "segments": tuple(_segment(one, data) for one in facts["segments"]),
        "window_starts_s": tuple(facts["window_starts_s"]),
    }
    return Clip(**facts | made)


def _segment(facts: _Facts, data: memoryview) -> Segment:
    samples = facts["audio_samples"]
    made = {
        "frame_times_s": _array(facts["frame_times_s"], data),
        "audio_samples": None if samples is None else tuple(samples),
        "visual": Track(**facts["visual"]),
        "audio": Track(**facts["audio"]),
    }
    return Segment(**facts | made)


def _features(facts: _Facts, data: memoryview) -> ClipFeatures:
    return ClipFeatures(**{track: one and _array(one, data) for track, one in facts.items()})


def _array(facts: _Facts, data: memoryview) -> _AnyArray:
    """An array of its own, since one that lies askew in memory is added up in another order."""
    return np.frombuffer(data, facts["type"], facts["n"], facts["start"]).copy()
