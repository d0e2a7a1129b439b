"""Parsers of what strangers send, each fed bytes: only errors of the documented kinds may come out.

Used with damaged samples in the tests, and guided by coverage in `make fuzz` (tests/attack/guided.py).
"""

from __future__ import annotations

import asyncio
import atexit
import json
import random
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Request
from starlette.types import Message

from service.api.bodies import parse_body, read_form
from service.api.guard.byte_budget import ByteBudget
from service.api.intake.body import FormLimits
from service.api.intake.upload import receive_uploads
from service.api.intake.upload_folder import UploadFolder
from service.api.schemas import LabelSetBody
from service.bundle.directory import read_manifest
from service.bundle.manifest import MANIFEST_FILE
from service.decode import messages, wire
from service.errors import AhseError, BundleError, LabelError, MediaError, RequestError
from service.labels.label import (
    Candidates,
    Label,
    check_labels,
    check_templates,
    fill,
    label_key,
    make_label,
)
from service.media import Clip, ClipSound, DecodeLimits, DecodeSpec, Track
from tests.attack.damage import damaged_json, mutate
from tests.toy import write_toy_bundle


@dataclass(frozen=True)
class Parser:
    """A parser under attack.

    Attributes:
        read: Parses bytes and checks the result; raises AssertionError if that is not what it should be.
        refusals: What it may raise.
        samples: Well-formed inputs.
        is_json: Whether samples are JSON, which is also damaged value by value.
    """

    read: Callable[[bytes], None]
    refusals: tuple[type[Exception], ...]
    samples: Callable[[], list[bytes]]
    is_json: bool = True

    def refuses(self, content: bytes) -> bool:
        """Whether the input is refused as documented; any other exception comes through."""
        try:
            self.read(content)
        except self.refusals:
            return True
        return False

    def damaged(self, seed: int, count: int) -> Iterator[bytes]:
        """The samples, then that many damaged ones."""
        samples = self.samples()
        yield from samples
        chance = random.Random(seed)  # noqa: S311  (repeatable, not secret)
        for number in range(count):
            if self.is_json and number % 2:
                yield json.dumps(damaged_json(chance, json.loads(chance.choice(samples)))).encode()
            else:
                yield mutate(samples, seed, number, maximum=2)


# Multipart forms. An input is the Content-Type, a line end, and the body.

_LIMITS = FormLimits(max_fields=20, max_field_bytes=2_000)


@cache
def _runner() -> asyncio.Runner:
    """One event loop for all inputs: starting one takes longer than parsing."""
    runner = asyncio.Runner()
    atexit.register(runner.close)
    return runner


@cache
def _folder() -> UploadFolder:
    folder = UploadFolder(None, 10**9)
    atexit.register(folder.close)
    return folder


def _read_multipart(content: bytes) -> None:
    kind, _, body = content.partition(b"\n")
    before = set(_folder().path.iterdir())
    try:
        fields = _runner().run(_receive(kind, body))
    finally:
        assert set(_folder().path.iterdir()) == before, "an upload is left behind"
    _check_candidates([make_label(name) for name in read_form(fields).labels])


async def _receive(kind: bytes, body: bytes) -> tuple[tuple[str, str], ...]:
    # Boundaries and headers must be found wherever the network cuts the body.
    size = max(1 + len(body) % 61, len(body) // 8)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b""})

    async def receive() -> Message:
        return messages.pop(0)

    scope = {"type": "http", "headers": [(b"content-type", kind)], "query_string": b""}
    async with receive_uploads(Request(scope, receive), _folder(), _LIMITS, ByteBudget(10_000)) as uploads:
        assert all(one.path.is_file() for one in uploads.clips if one.url is None)
        return uploads.fields


def _multipart_samples() -> list[bytes]:
    clip, label = 'form-data; name="file"; filename="clip.mp4"', 'form-data; name="labels"'
    forms = [
        [(clip, b"\0\1\2--b\r\n-"), (label, b"a")],
        [
            ('form-data; name="labels"', b"dog"),
            ('form-data; name="labels"', "große Katze".encode()),
            (clip, b"\0"),
        ],
        [
            (clip, b"\0" * 90),
            ('form-data; name="labels[]"', b'["a", "b, c"]'),
            ('form-data; name="top_k"', b"3"),
        ],
        [
            (clip, b"x"),
            (label, b"a"),
            ('form-data; name="calibration"', b"1.5"),
            ('form-data; name="segment_s"', b"auto"),
        ],
        [
            (clip, b"x"),
            (label, b"a"),
            ('form-data; name="templates"', b"a {}."),
            ('form-data; name="frames"', b"key"),
        ],
        [
            ("form-data; name*=UTF-8''file; filename*=UTF-8''%e2%82%ac", b"\0"),
            ('form-data; name="bundle"', b"b"),
        ],
    ]
    return [
        *(b"multipart/form-data; boundary=b\n" + _form(parts) for parts in forms),
        b"multipart/form-data; boundary=b\n" + _form([('form-data; name="files"', b"\0"), *forms[1][:1]] * 2),
        b'application/json\n{"file": "AAEC", "labels": ["a", "b, c"], "top_k": 3, "calibration": 1.5}',
        b"video/mp4\n\0\1\2",
    ]


def _form(parts: list[tuple[str, bytes]]) -> bytes:
    head = "--b\r\nContent-Disposition: {}\r\nContent-Type: video/mp4\r\n\r\n"
    return b"".join(head.format(what).encode() + value + b"\r\n" for what, value in parts) + b"--b--\r\n"


# The manifest of a bundle.


def _read_manifest(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST_FILE).write_bytes(content)
        manifest = read_manifest(Path(folder))
    assert manifest.named_files() <= manifest.files.keys()
    assert len(manifest.encoders_digest()) == 64


def _manifest_samples() -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        own = write_toy_bundle(Path(folder) / "own", seen=["a"])
        shared = write_toy_bundle(Path(folder) / "shared", shared=True, head="similarity", notice="n")
        return [(bundle / MANIFEST_FILE).read_bytes() for bundle in (own, shared)]


# Labels: the body of a label set, and the same text as fields of a form and as one name.

_MAX_LABELS = 50


def _read_labels(content: bytes) -> None:
    text = content.decode("utf-8", "replace")
    for read in (_read_body, _read_field, _read_name):
        try:
            read(text)
        except (LabelError, RequestError):
            refused = True
        else:
            refused = False
    if refused:
        raise LabelError("the text is no name")


def _read_body(text: str) -> None:
    body = parse_body(text.encode("utf-8", "surrogatepass"), LabelSetBody)
    labels = [
        make_label(one) if isinstance(one, str) else make_label(one.name, one.prompts) for one in body.labels
    ]
    templates = ("a {}",) if body.templates is None else check_templates(body.templates)
    _check_candidates(labels, templates)


def _read_field(text: str) -> None:
    form = read_form([("labels", text), ("templates", text)])
    _check_candidates([make_label(name) for name in form.labels], form.templates or ("a {}",))


def _read_name(text: str) -> None:
    label = make_label(text, [text])
    assert make_label(label.name, label.prompts) == label, "cleaning a clean name changes it"
    assert label_key(label.name) == label_key(text), "cleaning makes another name of it"
    label.name.encode()


def _check_candidates(labels: list[Label], templates: tuple[str, ...] = ("a {}",)) -> None:
    """What a request does with names before it encodes them, and the promises that later code relies on."""
    check_labels(labels, _MAX_LABELS)
    candidates = Candidates(tuple(labels))
    candidates.check_prompt_characters(templates, 10_000)
    prompts = [fill(text, one.name) for one in labels for text in (one.prompts or templates)]
    assert sum(map(len, prompts)) <= 10_000, "more text than was counted"


def _labels_samples() -> list[bytes]:
    bodies: list[Any] = [
        {
            "labels": ["dog", {"name": "siren", "prompts": ["a {} {}", "wailing"]}],
            "templates": ["a video of a {}."],
        },
        {
            "labels": ["große Katze", "e\u0301te\u0301", "\u1100\u1161\u11a8", "\ufb03", "a  b"],
            "templates": None,
        },
        {"labels": []},
        ["dog", "cat, red"],
    ]
    return [*(json.dumps(body, ensure_ascii=False).encode() for body in bodies), b'"dog"', b'["a", "A"]']


# The protocol of decoding processes. An input is the header; its length and the arrays are added.

_SPEC = DecodeSpec(
    n_frames=2, image_size_px=2, sample_rate_hz=8, max_audio_s=2.0, n_windows=2, window_s=1.0, segment_s=1.0
)
_DECODE_LIMITS = DecodeLimits(max_duration_s=4.0, max_segments=4)
_PATIENCE_S = 20.0
_WIRE_ERRORS = (MediaError, EOFError, ValueError)


def _read_wire(content: bytes) -> None:
    """As the first message, and as the one that follows the sound."""
    with suppress(*_WIRE_ERRORS):
        _receive_clip(b"", content)
    header = json.dumps({"n_samples": 8, "n_full_samples": 8, "window_starts_s": []}).encode()
    _receive_clip(struct.pack("!I", len(header)) + header + bytes(8 * 4), content)


def _receive_clip(before: bytes, content: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(before + struct.pack("!I", len(content)) + content + bytes(200))
        theirs.shutdown(socket.SHUT_WR)
        clip = wire.receive_clip(ours, _SPEC, _DECODE_LIMITS, messages.within(_PATIENCE_S), _check_sound)
    _check_clip(clip)


def _check_sound(sound: ClipSound) -> None:
    """It is as long as its windows."""
    n_samples = 0 if sound.waveform is None else len(sound.waveform)
    if sound.window_starts_s:
        assert n_samples == len(sound.window_starts_s) * _SPEC.window_samples, "window_starts_s"


def _check_clip(clip: Clip) -> None:
    """Every field has the type that the service goes on with."""
    assert type(clip.duration_s) in (int, float), "duration_s"
    assert type(clip.n_frames_decoded) is int, "n_frames_decoded"
    assert clip.frame_times_s.ndim == 1, "frame_times_s"
    assert clip.frames is None or clip.frames.shape == (2, 2, 2, 3), "frames"
    assert all(isinstance(warning, str) for warning in clip.warnings), "warnings"
    for track in (clip.visual, clip.audio, *(track for s in clip.segments for track in (s.visual, s.audio))):
        assert isinstance(track, Track), "track"
        assert (type(track.used), type(track.detail)) == (bool, str), "track"
        assert track.reason is None or type(track.reason) is str, "track"
    n_samples = 0 if clip.full_waveform is None else len(clip.full_waveform)
    for segment in clip.segments:
        assert type(segment.start_s) in (int, float), "start_s"
        assert type(segment.end_s) in (int, float), "end_s"
        assert segment.frame_times_s.ndim == 1, "frame_times_s of a segment"
        assert len(segment.frame_times_s) <= 2, "frame_times_s of a segment"
        first, stop = segment.audio_samples or (0, 0)
        assert 0 <= first <= stop <= n_samples, "audio_samples"


class _Recorder:
    """Takes the place of a socket, and keeps the header of the message that is sent."""

    def __init__(self) -> None:
        self.header = b""

    def sendall(self, data: bytes) -> None:
        self.header = self.header or bytes(data[4:])


def _wire_samples() -> list[bytes]:
    frames, wave = np.zeros((2, 2, 2, 3), np.uint8), np.zeros(8, np.float32)
    good, none = Track(used=True, detail="h264"), Track(used=False, reason="no_stream", detail="none")
    clips = [
        Clip(
            frames,
            np.array([0.2, 0.7]),
            wave,
            1.0,
            good,
            good,
            ("a frame is missing",),
            2,
        ),
        Clip(None, np.array([]), wave, 1.0, none, good),
    ]
    found = []
    for clip in clips:
        recorder = _Recorder()
        wire.send_clip(recorder, clip)  # type: ignore[arg-type]
        found.append(recorder.header)
    for sound in (ClipSound(wave, wave), ClipSound(wave, None, (0.5,)), ClipSound(None)):
        recorder = _Recorder()
        wire.send_sound(recorder, sound)  # type: ignore[arg-type]
        found.append(recorder.header)
    found.append(json.dumps({"error": "empty_file", "message": "m", "trace": "t"}).encode())
    segment = {"start_s": 0.0, "end_s": 1.0, "has_frames": True, "audio_samples": [0, 4]}
    tracks = {name: {"used": True, "reason": None, "detail": ""} for name in ("visual", "audio")}
    found.append(json.dumps(json.loads(found[0]) | {"segments": [segment | tracks]}).encode())
    return found


PARSERS = {
    "multipart": Parser(_read_multipart, (AhseError,), _multipart_samples, is_json=False),
    "manifest": Parser(_read_manifest, (BundleError,), _manifest_samples),
    "labels": Parser(_read_labels, (LabelError,), _labels_samples),
    "wire": Parser(_read_wire, _WIRE_ERRORS, _wire_samples),
}
