"""Segments are encoded as clips are, whatever shares a batch with them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.cancellation import CancellationToken, current_token
from service.classifier import Classifier
from service.embed.embedder import LabelEmbedder
from service.encode.clip_features import EncodingAhead, encode_clip, encode_segments
from service.labels.label import Candidates, make_label
from service.media import Clip, ClipSound, DecodeSpec, OnSound, Segment, Track
from service.options import ClassifyOptions
from service.registry import Bundle, load_bundle
from service.runtime.providers import Runtime

USED = Track(used=True)


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path) -> Bundle:
    """The toy bundle, loaded."""
    return load_bundle(toy_bundle, Runtime(device="cpu", n_threads=1))


def _clip(n_segments: int, lacking: tuple[int, ...] = ()) -> Clip:
    """A clip of noise, with two seconds of sound in each segment; some segments have no tracks."""
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.5, 0.5, 32_000 * n_segments).astype(np.float32)
    frames = rng.integers(0, 255, (n_segments, 4, 16, 16, 3), np.uint8)
    segments = [
        Segment(
            start_s=2.0 * i,
            end_s=2.0 * i + 2,
            frames=None if i in lacking else frames[i],
            frame_times_s=np.empty(0) if i in lacking else 2.0 * i + np.arange(4.0) / 2,
            audio_samples=None if i in lacking else (32_000 * i, 32_000 * (i + 1) - 100),
            visual=USED,
            audio=USED,
        )
        for i in range(n_segments)
    ]
    return Clip(
        frames=frames[0],
        frame_times_s=np.arange(4.0),
        waveform=sound,
        duration_s=2.0 * n_segments,
        visual=USED,
        audio=USED,
        segments=tuple(segments),
        full_waveform=sound,
    )


def test_a_segment_has_the_features_of_an_equal_clip(bundle: Bundle) -> None:
    """Nine segments are 36 frames and 36 windows, so that batches of 16 mix segments."""
    clip = _clip(9, lacking=(3, 8))
    features = encode_segments(bundle.encoders, clip)
    assert [one.is_empty for one in features] == [i in (3, 8) for i in range(9)]
    for segment, found in zip(clip.segments, features, strict=True):
        if segment.audio_samples is None or clip.full_waveform is None:
            continue
        alone = Clip(
            segment.frames, np.empty(0), clip.full_waveform[slice(*segment.audio_samples)], 2.0, USED, USED
        )
        expected = encode_clip(bundle.encoders, alone)
        for ours, theirs in ((found.visual, expected.visual), (found.audio, expected.audio)):
            assert ours is not None
            assert theirs is not None
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_long_clip_is_encoded_in_batches(bundle: Bundle) -> None:
    """The oracle averages all frames and windows without batches."""
    clip = _clip(20)
    features = encode_clip(bundle.encoders, clip)
    assert clip.frames is not None
    assert clip.waveform is not None
    windows = bundle.encoders.audio(waveform=clip.waveform.reshape(-1, 8_000))
    for found, each in (
        (features.visual, bundle.encoders.visual(frames=clip.frames)),
        (features.audio, windows),
    ):
        mean = each.astype(np.float64).mean(axis=0)
        assert found is not None
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_clip_without_segments_has_no_segment_features(bundle: Bundle) -> None:
    """No encoder is run."""
    assert encode_segments(bundle.encoders, Clip(None, np.empty(0), None, 1.0, USED, USED)) == []


def test_repeated_frames_are_encoded_once(bundle: Bundle) -> None:
    """In the mean they count as often as they occur."""
    frames = np.random.default_rng(1).integers(0, 255, (3, 16, 16, 3), np.uint8)
    repeated = frames[[0, 0, 0, 1, 2, 2, 0]]
    n_rows: list[int] = []

    def counted(**inputs: np.ndarray) -> np.ndarray:
        n_rows.append(len(inputs["frames"]))
        return bundle.encoders.visual(**inputs)

    clip = Clip(repeated, np.empty(0), None, 1.0, USED, USED)
    encoders = replace(bundle.encoders, visual=counted)  # type: ignore[arg-type]  # all that is called
    found = encode_clip(encoders, clip)
    each = bundle.encoders.visual(frames=repeated).mean(axis=0)
    assert n_rows == [4]
    assert found.visual is not None
    np.testing.assert_allclose(found.visual, each / np.linalg.norm(each), atol=1e-6)


def test_sound_is_encoded_while_frames_are_decoded(bundle: Bundle, tmp_path: Path) -> None:
    """The decoder here gives the frames only when the sound has been encoded."""
    clip, encoded, path = _clip(1), threading.Event(), tmp_path / "clip"
    path.write_bytes(b"any")

    def audio(**inputs: np.ndarray) -> np.ndarray:
        features = bundle.encoders.audio(**inputs)
        encoded.set()
        return features

    def decode(_: Path, __: DecodeSpec, on_sound: OnSound) -> Clip:
        on_sound(ClipSound(clip.waveform))
        assert encoded.wait(60)
        return clip

    watched = replace(bundle, encoders=replace(bundle.encoders, audio=audio))  # type: ignore[arg-type]
    classifier = Classifier(decode, LabelEmbedder(10**6))
    ways = ClassifyOptions()
    names = classifier.embed(bundle, Candidates((make_label("red"), make_label("blue"))), ways).finish()
    found = classifier.classify(path, watched, names, ways).encoded.features
    alone = encode_clip(bundle.encoders, clip)
    np.testing.assert_array_equal(found.audio, alone.audio)
    np.testing.assert_array_equal(found.visual, alone.visual)


def test_of_sound_that_comes_twice_the_last_counts(bundle: Bundle) -> None:
    """As when a decoding process had to be replaced; and none of it where the clip has no sound after all."""
    clip = _clip(1)
    assert clip.waveform is not None
    tone = np.sin(np.arange(len(clip.waveform)) / 5).astype(np.float32)
    with EncodingAhead(bundle.encoders) as ahead:
        ahead.begin(ClipSound(tone))
        ahead.begin(ClipSound(clip.waveform))
        found, mute = ahead.features(clip), ahead.features(replace(clip, waveform=None))
    expected = encode_clip(bundle.encoders, clip)
    other = encode_clip(bundle.encoders, replace(clip, waveform=tone)).audio
    np.testing.assert_array_equal(found.audio, expected.audio)
    assert expected.audio is not None
    assert other is not None
    assert np.abs(expected.audio - other).max() > 0.1
    np.testing.assert_array_equal(mute.visual, expected.visual)
    assert mute.audio is None


def test_encoding_ahead_ends_with_its_context(bundle: Bundle) -> None:
    """No thread of a request goes on without it, and it can be cancelled; its error is that of the clip."""
    ended, token, leaving = [], CancellationToken(), threading.Event()

    def audio(**_: np.ndarray) -> np.ndarray:
        assert leaving.wait(60)
        ended.append(current_token())
        raise RuntimeError("broken")

    encoders = replace(bundle.encoders, audio=audio)  # type: ignore[arg-type]  # all that is called
    with token.active(), EncodingAhead(encoders) as ahead:
        ahead.begin(ClipSound(_clip(1).waveform))
        threading.Timer(0.05, leaving.set).start()
    assert ended == [token]
    with pytest.raises(RuntimeError, match="broken"):
        ahead.features(_clip(1))


def test_sound_of_a_clip_that_fails_is_not_encoded_to_its_end(bundle: Bundle) -> None:
    """Of a long one that would be many batches, behind which the error and others would wait."""
    n_rows, started, failed = [], threading.Event(), threading.Event()

    def audio(**inputs: np.ndarray) -> np.ndarray:
        n_rows.append(len(inputs["waveform"]))
        started.set()
        assert failed.wait(60)
        return bundle.encoders.audio(**inputs)

    encoders = replace(bundle.encoders, audio=audio)  # type: ignore[arg-type]  # all that is called
    with EncodingAhead(encoders) as ahead:
        ahead.begin(ClipSound(_clip(20).waveform))
        assert started.wait(60)
        ahead.begin(ClipSound(None))
        failed.set()
    assert n_rows == [16]
