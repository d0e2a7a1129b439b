"""Features of clips are kept by their content, as many as there is room for."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from service.classification import Classification
from service.classifier import Classifier, decode_spec
from service.decode.clip_decoding import decode_clip
from service.embed.embedder import LabelEmbedder
from service.encode.features import ClipFeatures
from service.encode.known_clips import ClipKey, EncodedClip, KnownClips
from service.errors import ClipUnavailableError
from service.labels.label import Candidates, make_label
from service.media import Clip, DecodeLimits, DecodeSpec, OnSound, Segment, Track
from service.options import ClassifyOptions
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

USED = Track(used=True)


def _encoded() -> EncodedClip:
    frames, sound = np.zeros((2, 4, 4, 3), np.uint8), np.zeros(16, np.float32)
    segment = Segment(0.0, 1.0, frames, np.zeros(2), (0, 16), USED, USED)
    clip = Clip(frames, np.zeros(2), sound, 1.0, USED, USED, segments=(segment,), full_waveform=sound)
    features = ClipFeatures(np.ones(300, np.float32), np.ones(200, np.float32))
    return EncodedClip(clip, features, (features,), ((0.0, 1.0),))


def _key(name: str) -> ClipKey:
    return ClipKey(name, "bundle", DecodeSpec(n_frames=1, image_size_px=1, sample_rate_hz=1, max_audio_s=1))


def test_what_is_kept_has_features_and_facts_but_no_pictures_or_sound() -> None:
    """These are nearly all of the memory."""
    known, encoded = KnownClips(10**6), _encoded()
    known.keep(_key("a"), encoded)
    found = known.get(_key("a"))
    assert found is not None
    assert found.features is encoded.features
    assert (found.clip.frames, found.clip.waveform, found.clip.full_waveform) == (None, None, None)
    (segment,) = found.clip.segments
    assert (segment.frames, segment.audio_samples, segment.visual) == (None, (0, 16), USED)
    assert encoded.clip.frames is not None  # that of the request stays


def test_the_clip_that_was_asked_for_longest_ago_goes() -> None:
    """There is room for two: 4,000 bytes of features and 4,826 of the rest each."""
    known = KnownClips(17_700)
    for name in ("a", "b"):
        known.keep(_key(name), _encoded())
    assert known.get(_key("a")) is not None
    known.keep(_key("c"), _encoded())
    assert [known.get(_key(name)) is None for name in ("a", "b", "c")] == [False, True, False]


def test_without_room_nothing_is_kept() -> None:
    """As a setting of 0 asks for."""
    known = KnownClips(0)
    known.keep(_key("a"), _encoded())
    assert known.get(_key("a")) is None


class Counted:
    """Decodes here, and counts."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, path: Path, spec: DecodeSpec, on_sound: OnSound) -> Clip:
        """Decode."""
        self.n += 1
        return decode_clip(path, spec, DecodeLimits(), on_sound)


def _ask(
    classifier: Classifier, bundle: Bundle, clip: Path, *names: str, **options: object
) -> Classification:
    candidates = Candidates(tuple(map(make_label, names)))
    asked = ClassifyOptions.model_validate(options)
    return classifier.classify(clip, bundle, classifier.embed(bundle, candidates, asked).finish(), asked)


def test_another_question_about_a_clip_decodes_nothing(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """Whatever the file is called; and the answer is that of a service that keeps nothing."""
    bundle, decode = load_bundle(toy_bundle, Runtime(device="cpu")), Counted()
    classifier = Classifier(decode, LabelEmbedder(10**6), KnownClips(10**6))
    copy = clips["red low"].with_name("copy")
    copy.write_bytes(clips["red low"].read_bytes())
    _ask(classifier, bundle, clips["red low"], "red", "blue")
    found = _ask(classifier, bundle, copy, "green", "red with a low tone")
    assert (decode.n, found.is_known) == (1, True)
    fresh = _ask(Classifier(decode, LabelEmbedder(10**6)), bundle, copy, "green", "red with a low tone")
    assert (decode.n, fresh.is_known) == (2, False)
    np.testing.assert_array_equal(found.whole.ranking.distance, fresh.whole.ranking.distance)
    assert (found.warnings, found.clip.visual) == (fresh.warnings, fresh.clip.visual)
    assert (found.clip_sha256, found.encoded.windows_s) == (fresh.clip_sha256, fresh.encoded.windows_s)


def test_what_is_decoded_otherwise_is_another_clip(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """Key frames and segments are; a question with other names or another beta is not."""
    bundle, decode = load_bundle(toy_bundle, Runtime(device="cpu")), Counted()
    classifier = Classifier(decode, LabelEmbedder(10**6), KnownClips(10**6))
    for options in ({}, {"beta": "off"}, {"frames": "key"}, {"segment_s": "auto"}, {"segment_s": "auto"}):
        _ask(classifier, bundle, clips["red low"], "red", "blue", **options)
    assert decode.n == 3
    assert decode_spec(bundle.manifest) == decode_spec(bundle.manifest, ClassifyOptions(beta="off"))


def test_a_clip_as_a_vector_is_taken_from_there_too(toy_bundle: Path, clips: dict[str, Path]) -> None:
    """It is made of the same features."""
    bundle, decode = load_bundle(toy_bundle, Runtime(device="cpu")), Counted()
    classifier = Classifier(decode, LabelEmbedder(10**6), KnownClips(10**6))
    _ask(classifier, bundle, clips["red low"], "red", "blue")
    classifier.clip_vector(clips["red low"], bundle, ClassifyOptions())
    assert decode.n == 1


def test_a_clip_that_can_not_be_read_now_is_not_called_damaged(
    toy_bundle: Path, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is gone, or on a disk that fails while it is read: nobody knows what it holds."""
    bundle = load_bundle(toy_bundle, Runtime(device="cpu"))
    with pytest.raises(ClipUnavailableError, match="can't be read now"):
        _ask(Classifier(Counted(), LabelEmbedder(10**6)), bundle, tmp_path / "none", "red", "blue")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("service.classifier.hashlib.file_digest", fail)
    with pytest.raises(ClipUnavailableError):
        _ask(Classifier(Counted(), LabelEmbedder(10**6)), bundle, clips["green"], "red", "blue")
