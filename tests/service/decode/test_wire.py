"""The protocol between the service and decoding processes: whatever one sends, the service is safe."""

import json
import math
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from service.decode import messages, wire
from service.errors import DecodeCrashedError, EmptyFileError
from service.media import Clip, ClipSound, DecodeLimits, DecodeSpec, OnSound, Segment, Track, ignore_sound

LIMITS = DecodeLimits(max_duration_s=60.0)


def test_what_went_wrong_in_a_process_reaches_the_log_of_the_service(spec: DecodeSpec) -> None:
    """As the cause of the error, which is logged, and not as lines of its own between those of the log."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send_error(
            theirs, DecodeCrashedError("The clip could not be decoded."), "x" * 5000 + "IndexError: 7"
        )
        with pytest.raises(DecodeCrashedError) as caught:
            wire.receive_clip(ours, spec, LIMITS, messages.within(10), ignore_sound)
    assert str(caught.value.__cause__).endswith("IndexError: 7")
    assert len(str(caught.value.__cause__)) == 2000


_ANSWER: dict[str, Any] = {
    "has_frames": False,
    "frame_times_s": [],
    "duration_s": 1.0,
    "visual": {"used": False, "reason": "no_stream", "detail": ""},
    "audio": {"used": False, "reason": "no_stream", "detail": ""},
    "warnings": [],
    "n_frames_decoded": 0,
    "at_key_frames": False,
    "segments": [],
}
_SOUND: dict[str, Any] = {"n_samples": 8, "n_full_samples": None, "window_starts_s": []}
_SEGMENT = {
    "start_s": 0.0,
    "end_s": 1.0,
    "has_frames": False,
    "frame_times_s": [],
    "audio_samples": None,
    "visual": _ANSWER["visual"],
    "audio": _ANSWER["audio"],
}


@pytest.mark.parametrize(
    ("changes", "n_bytes"),
    [
        ({"has_frames": True}, 100),
        ({"segments": [_SEGMENT]}, 0),
        ({"has_frames": "yes"}, 0),
        ({"duration_s": "long"}, 0),
        ({"duration_s": math.nan}, 0),
        ({"visual": {"used": 1}}, 0),
        ({"error": ["empty_file"], "message": None}, 0),
        ({"frame_times_s": [0.0] * 20}, 0),
        pytest.param({"warnings": ["x" * 100_001]}, 0, id="long warnings"),
    ],
    ids=str,
)
def test_an_answer_that_does_not_fit_the_request_is_rejected(
    changes: dict[str, Any], n_bytes: int, spec: DecodeSpec
) -> None:
    """A process that was taken over can make the service neither allocate memory nor stumble later."""
    answer = json.dumps(changes if "error" in changes else _ANSWER | changes).encode()
    with pytest.raises((EOFError, ValueError)):
        _receive(answer, n_bytes, spec)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_samples": 10**9},
        {"n_full_samples": 10**9},
        {"n_samples": -1},
        {"n_samples": 0, "window_starts_s": []},
        {"n_full_samples": 0},
        {"n_samples": "all"},
        {"window_starts_s": [0.0, 1.0]},
        {"n_samples": None, "window_starts_s": [0.0]},
        {"n_samples": 16, "window_starts_s": [0.0]},
        {"window_starts_s": [-1.0]},
        {"window_starts_s": [math.nan]},
    ],
    ids=str,
)
def test_sound_that_does_not_fit_the_request_is_rejected(changes: dict[str, Any], spec: DecodeSpec) -> None:
    """One window of 8 samples, which starts within the clip, would."""
    small = replace(spec, sample_rate_hz=8, max_audio_s=1.0)
    good = _SOUND | {"window_starts_s": [0.0]}
    _receive_all([(good, 32), (_ANSWER, 0)], small)
    with pytest.raises((EOFError, ValueError)):
        _receive_all([(good | changes, 64), (_ANSWER, 0)], small)


def test_an_error_may_follow_the_sound(spec: DecodeSpec) -> None:
    """The picture may be what is broken."""
    heard: list[ClipSound] = []
    error = {"error": "empty_file", "message": "It is empty.", "trace": ""}
    with pytest.raises(EmptyFileError, match="It is empty"):
        _receive_all([(_SOUND, 32), (error, 0)], spec, heard.append)
    assert [sound.waveform.tolist() for sound in heard if sound.waveform is not None] == [[0.0] * 8]


def test_sound_comes_once(spec: DecodeSpec) -> None:
    """A process that was taken over could otherwise have any amount of it encoded."""
    with pytest.raises(EOFError):
        _receive_all([(_SOUND, 32), (_SOUND, 32), (_ANSWER, 0)], spec)


def test_what_is_sent_is_received(spec: DecodeSpec) -> None:
    """Where the waveform is the beginning of all the sound it crosses once, and is a view."""
    rng = np.random.default_rng(0)
    full = rng.uniform(-1, 1, 40).astype(np.float32)
    for sent, is_view in (
        (ClipSound(full[:24]), False),
        (ClipSound(None, full), False),
        (ClipSound(full[:24], full), True),
        (ClipSound(full[:16], full, (0.0, 3.0)), False),
    ):
        ours, theirs = socket.socketpair()
        heard: list[ClipSound] = []
        asked = replace(spec, sample_rate_hz=8, max_audio_s=3.0, n_windows=2, window_s=1.0, segment_s=1.0)
        with ours, theirs:
            wire.send_sound(theirs, sent)
            messages.send(theirs, _ANSWER)
            clip = wire.receive_clip(ours, asked, LIMITS, messages.within(60), heard.append)
        for found in (heard[0], clip):
            assert found.window_starts_s == sent.window_starts_s
            np.testing.assert_array_equal(found.waveform, sent.waveform)
            np.testing.assert_array_equal(found.full_waveform, sent.full_waveform)
        part, whole = clip.waveform, clip.full_waveform
        is_same = part is not None and whole is not None and np.shares_memory(part, whole)
        assert is_same == is_view


def test_a_segment_with_more_frames_than_asked_for_is_rejected(spec: DecodeSpec) -> None:
    """Their times are kept with the features of the clip."""
    asked = replace(spec, segment_s=1.0)
    for n_frames in (4, 5):
        segment = _SEGMENT | {"frame_times_s": [0.0] * n_frames}
        answer = json.dumps(_ANSWER | {"segments": [segment]}).encode()
        with pytest.raises(EOFError) if n_frames > asked.n_segment_frames else nullcontext():
            _receive(answer, 0, asked)


def test_as_many_segments_as_are_allowed_are_received(spec: DecodeSpec) -> None:
    """Whatever is said of each; jobs allow more segments, with the length of their clips."""
    n_segments, third_s = 3_000, 100 / 3
    track = Track(used=False, reason="undecodable", detail="x" * 100)
    times_s = np.full(spec.n_segment_frames, third_s)
    segment = Segment(third_s, third_s, None, times_s, None, track, track)
    sent = Clip(None, np.empty(0), None, third_s, track, track, segments=(segment,) * n_segments)
    ours, theirs = socket.socketpair()
    limits = replace(LIMITS, max_segments=n_segments)
    with ThreadPoolExecutor(1) as sender, ours, theirs:
        sending = sender.submit(wire.send_clip, theirs, sent)
        clip = wire.receive_clip(
            ours, replace(spec, segment_s=1.0), limits, messages.within(60), ignore_sound
        )
        sending.result(60)
    assert len(clip.segments) == n_segments


@pytest.mark.parametrize("answer", [b"3", b"[]", b"null", b'"clip"', b"[" * 100_000, b"\xff", b""])
def test_an_answer_that_is_no_object_is_rejected(answer: bytes, spec: DecodeSpec) -> None:
    """It was an error that nobody expected: the clip was answered 500."""
    with pytest.raises(ValidationError):
        _receive(answer, 0, spec)


def _receive(answer: bytes, n_bytes: int, spec: DecodeSpec) -> None:
    _receive_bytes(len(answer).to_bytes(4) + answer + bytes(n_bytes), spec, ignore_sound)


def _receive_all(
    messages: list[tuple[dict[str, Any], int]], spec: DecodeSpec, on_sound: OnSound = ignore_sound
) -> None:
    """Receive messages: the header of each, and how many bytes of arrays follow."""
    texts = [(json.dumps(header).encode(), bytes(n_bytes)) for header, n_bytes in messages]
    _receive_bytes(b"".join(len(text).to_bytes(4) + text + arrays for text, arrays in texts), spec, on_sound)


def _receive_bytes(sent: bytes, spec: DecodeSpec, on_sound: OnSound) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(sent)
        wire.receive_clip(ours, spec, LIMITS, messages.within(60), on_sound)
