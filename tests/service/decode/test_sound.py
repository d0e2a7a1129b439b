"""Long sound: windows that are spread evenly over it, the same however it is stored and asked for."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from service.decode import DecodePool, clip_decoding, decode_clip, sound
from service.decode.audio import Excerpt
from service.decode.container import Source
from service.decode.video import read_frames
from service.errors import NoTracksError
from service.media import DecodeLimits, DecodeSpec
from tests.service.decode.clips import write_sound
from tests.service.decode.conftest import Make

RATE_HZ = 16_000
LENGTH_S = 12.0
SPREAD = DecodeSpec(1, 32, RATE_HZ, max_audio_s=3.0, n_windows=3, window_s=1.0)
# The middles of three windows of a second are those of the thirds of 12 seconds: 2, 6 and 10.
STARTS_S = (1.5, 5.5, 9.5)


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """Sound of 12 s at the wanted rate, whose samples tell where they are: they rise all the time."""
    path = tmp_path / "ramp.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((np.arange(LENGTH_S * RATE_HZ) // 8 + 1).astype("<i2").tobytes())
    return path


def _expected(starts_s: tuple[float, ...]) -> np.ndarray:
    at = np.concatenate([np.arange(RATE_HZ) + round(start_s * RATE_HZ) for start_s in starts_s])
    return (at // 8 + 1) / 32_768


def test_windows_are_spread_evenly_over_longer_sound(ramp: Path, limits: DecodeLimits) -> None:
    """Their samples are those of the sound, and a warning says what was used."""
    clip = decode_clip(ramp, SPREAD, limits)
    assert clip.waveform is not None
    assert clip.window_starts_s == pytest.approx(STARTS_S)
    np.testing.assert_allclose(clip.waveform, _expected(STARTS_S), atol=1e-6)
    assert clip.duration_s == pytest.approx(LENGTH_S)
    assert clip.warnings == ("Of the sound, 3 pieces of 1 seconds, spread evenly over it, were used.",)


@pytest.mark.parametrize("max_audio_s", [LENGTH_S, LENGTH_S - 0.09])
def test_sound_that_is_hardly_longer_is_used_whole(
    max_audio_s: float, ramp: Path, limits: DecodeLimits
) -> None:
    """Codecs pad sound, and a warning about that would help nobody."""
    clip = decode_clip(ramp, replace(SPREAD, max_audio_s=max_audio_s), limits)
    assert clip.waveform is not None
    assert (len(clip.waveform), clip.window_starts_s, clip.warnings) == (LENGTH_S * RATE_HZ, (), ())


@pytest.mark.parametrize(("name", "codec"), [("s.flac", "flac"), ("s.m4a", "aac"), ("s.mp3", "libmp3lame")])
def test_a_window_is_what_the_whole_sound_has_there(
    name: str, codec: str, make_clip: Make, limits: DecodeLimits
) -> None:
    """Also where it is resampled, and where a codec needs what was before."""
    path = make_clip(name=name, codec=None, audio=codec, audio_s=8.0)
    max_change_in_a_sample = 0.5 * 2 * np.pi * 440 / RATE_HZ
    spread = decode_clip(path, SPREAD, limits)
    whole = decode_clip(path, replace(SPREAD, max_audio_s=60.0), limits)
    assert spread.waveform is not None
    assert whole.waveform is not None
    for window, start_s in zip(spread.waveform.reshape(3, -1), spread.window_starts_s, strict=True):
        first = round(start_s * RATE_HZ)
        np.testing.assert_allclose(
            window, whole.waveform[first : first + RATE_HZ], atol=max_change_in_a_sample
        )
    assert spread.duration_s == pytest.approx(whole.duration_s, abs=0.1)


PAUSE = slice(4 * RATE_HZ, 6 * RATE_HZ)


def test_a_pause_is_silence(tmp_path: Path, limits: DecodeLimits) -> None:
    """What comes behind a gap in the timestamps is heard when it is due; a window may begin in the gap."""
    expected = np.arange(LENGTH_S * RATE_HZ) // 8 + 1
    expected[PAUSE] = 0
    path = _with_pause(tmp_path / "paused.mkv", "pcm_s16le", expected)
    clip = decode_clip(path, replace(SPREAD, segment_s=LENGTH_S), limits)
    assert clip.waveform is not None
    assert clip.full_waveform is not None
    assert clip.window_starts_s == pytest.approx(STARTS_S, abs=0.001)
    windows = [expected[round(at_s * RATE_HZ) :][:RATE_HZ] for at_s in clip.window_starts_s]
    np.testing.assert_allclose(clip.waveform, np.concatenate(windows) / 32_768, atol=2 / 32_768)
    np.testing.assert_allclose(clip.full_waveform, expected / 32_768, atol=1e-6)
    whole = decode_clip(path, replace(SPREAD, max_audio_s=60.0), limits).waveform
    assert whole is not None
    np.testing.assert_allclose(whole, expected / 32_768, atol=1e-6)


@pytest.mark.parametrize(("name", "codec"), [("p.mp4", "aac"), ("p.ts", "mp2"), ("p.webm", "libopus")])
def test_a_pause_is_silence_in_any_container(
    name: str, codec: str, tmp_path: Path, limits: DecodeLimits
) -> None:
    """The sound is as long and as loud in each part of a second as it was."""
    tone = np.sin(2 * np.pi * 440 * np.arange(LENGTH_S * RATE_HZ) / RATE_HZ) * 10_000
    path = _with_pause(tmp_path / name, codec, tone)
    found = decode_clip(path, replace(SPREAD, max_audio_s=60.0), limits).waveform
    assert found is not None
    assert len(found) == pytest.approx(len(tone), abs=0.1 * RATE_HZ)
    tone[PAUSE] = 0
    parts = [samples[: 11 * RATE_HZ].reshape(22, -1) for samples in (found, tone / 32_768)]
    loudness, expected = (np.sqrt((part**2).mean(1)) for part in parts)
    np.testing.assert_allclose(loudness, expected, atol=0.1)  # frames are filled up at the pause


def test_one_wrong_time_is_no_pause(make_clip: Make, limits: DecodeLimits) -> None:
    """A packet that claims to be heard three seconds later, among others that are in time."""
    path = make_clip(name="s.flv", codec=None, audio="aac", audio_s=4.0)
    right, content = decode_clip(path, SPREAD, limits).duration_s, bytearray(path.read_bytes())
    place = 13
    for _ in range(50):
        place += 15 + int.from_bytes(content[place + 1 : place + 4])
    assert content[place] == 8  # a tag with sound
    stamp = int.from_bytes(content[place + 4 : place + 7])
    content[place + 4 : place + 7] = (stamp + 3_000).to_bytes(3)
    path.write_bytes(content)
    assert decode_clip(path, SPREAD, limits).duration_s == pytest.approx(right)


def test_sounds_that_stand_alone_are_heard_when_they_are_due(tmp_path: Path, limits: DecodeLimits) -> None:
    """Each is a packet between two pauses, so none confirms the time of another; the last has none behind."""
    expected = np.zeros(round(3.55 * RATE_HZ))
    for start in range(0, len(expected), RATE_HZ // 2):
        expected[start : start + 800] = 9_000
    path = _write(tmp_path / "alone.mkv", "pcm_s16le", expected, lambda start: expected[start] != 0)
    clip = decode_clip(path, replace(SPREAD, max_audio_s=60.0), limits)
    assert clip.waveform is not None
    np.testing.assert_allclose(clip.waveform, expected / 32_768, atol=1e-6)
    assert clip.duration_s == pytest.approx(3.55)


LAST = 9 * RATE_HZ


@pytest.mark.parametrize(
    ("n_frames", "length_s"), [(0, 0.25), (1, 0.25), (10, 9.05)], ids=["alone", "short", "long"]
)
def test_a_pause_before_the_last_sound_is_believed_where_the_picture_goes_on(
    n_frames: int, length_s: float, tmp_path: Path, limits: DecodeLimits
) -> None:
    """One wrong time at the end of a recording would make a long clip of it, nearly all silent."""
    expected = np.full(LAST + 800, 9_000)
    path = _write(
        tmp_path / "late.mkv", "pcm_s16le", expected, lambda start: start < 3_200 or start == LAST, n_frames
    )
    clip = decode_clip(path, replace(SPREAD, max_audio_s=60.0), limits)
    assert clip.waveform is not None
    assert len(clip.waveform) / RATE_HZ == pytest.approx(length_s)
    assert clip.duration_s == pytest.approx(max(n_frames, length_s))


def test_a_stream_without_times_has_no_pauses(tmp_path: Path, limits: DecodeLimits) -> None:
    """FFmpeg makes its times up, by the first sample rate where that changes."""
    parts = [
        write_sound(
            tmp_path / f"{rate_hz}.aac", np.full((1, 3 * rate_hz), 0.3), "aac", layout="mono", rate_hz=rate_hz
        )
        for rate_hz in (22_050, 44_100)
    ]
    path = tmp_path / "radio.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert decode_clip(path, SPREAD, limits).duration_s == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("begin_s", [2.45, 2.5, 2.55, 2.6])
def test_a_pause_may_begin_where_a_window_ends(begin_s: float, tmp_path: Path, limits: DecodeLimits) -> None:
    """Nothing is damaged then."""
    pause = slice(round(begin_s * RATE_HZ), 6 * RATE_HZ)
    path = _with_pause(tmp_path / "paused.mkv", "pcm_s16le", np.full(round(LENGTH_S * RATE_HZ), 9_000), pause)
    (warning,) = decode_clip(path, SPREAD, limits).warnings
    assert "damaged" not in warning


def _with_pause(path: Path, codec: str, samples: np.ndarray, pause: slice = PAUSE) -> Path:
    """Encode samples of 16 bits but for those of the pause, each at its time."""
    return _write(path, codec, samples, lambda start: not pause.start <= start < pause.stop)


def _write(
    path: Path, codec: str, samples: np.ndarray, is_there: Callable[[int], bool], n_frames: int = 0
) -> Path:
    """Encode samples of 16 bits in frames of 50 ms, each at its time, if it is there; a frame each second."""
    with av.open(str(path), "w") as container:
        if n_frames:
            video: Any = container.add_stream("mpeg4", rate=1, width=32, height=32, pix_fmt="yuv420p")
            pictures = [av.VideoFrame(32, 32, "yuv420p") for _ in range(n_frames)]
        stream: Any = container.add_stream(codec, rate=RATE_HZ, layout="mono")
        for start in range(0, len(samples), 800):
            if is_there(start):
                part = samples[None, start : start + 800].astype(np.int16)
                frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if n_frames:
            for number, picture in enumerate(pictures):
                picture.pts, picture.time_base = number, Fraction(1, 1)
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
    return path


def test_segments_do_not_change_the_windows(ramp: Path, limits: DecodeLimits) -> None:
    """All the sound is there beside them; across the process boundary both arrive as they are."""
    plain = decode_clip(ramp, SPREAD, limits)
    with DecodePool(limits, n_workers=1) as pool:
        cut = pool.decode(ramp, replace(SPREAD, segment_s=4.0))
    np.testing.assert_array_equal(cut.waveform, plain.waveform)
    assert (cut.window_starts_s, cut.duration_s) == (plain.window_starts_s, plain.duration_s)
    assert cut.full_waveform is not None
    np.testing.assert_allclose(
        cut.full_waveform, (np.arange(LENGTH_S * RATE_HZ) // 8 + 1) / 32_768, atol=1e-6
    )
    assert [segment.audio_samples for segment in cut.segments] == [
        (i * 4 * RATE_HZ, (i + 1) * 4 * RATE_HZ) for i in range(3)
    ]


@pytest.mark.parametrize("claimed_s", [0.0, 2.0, 8.0, 40.0])
def test_the_length_is_that_of_the_sound_whatever_the_file_states(
    claimed_s: float, ramp: Path, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is read again where that was wrong."""
    monkeypatch.setattr(Source, "audio_length_s", claimed_s)
    clip = decode_clip(ramp, SPREAD, limits)
    assert clip.waveform is not None
    assert clip.window_starts_s == pytest.approx(STARTS_S)
    np.testing.assert_allclose(clip.waveform, _expected(STARTS_S), atol=1e-6)


def test_segments_do_not_change_sound_at_the_limit(
    ramp: Path, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a little longer than what is used whole, and the file states a little less."""
    monkeypatch.setattr(Source, "audio_length_s", LENGTH_S - 0.06)
    spec = replace(SPREAD, max_audio_s=LENGTH_S - 0.12)
    plain = decode_clip(ramp, spec, limits)
    cut = decode_clip(ramp, replace(spec, segment_s=4.0), limits)
    assert plain.waveform is not None
    assert len(plain.waveform) == spec.whole_samples < LENGTH_S * RATE_HZ
    np.testing.assert_array_equal(cut.waveform, plain.waveform)
    assert cut.full_waveform is not None
    assert len(cut.full_waveform) == LENGTH_S * RATE_HZ


@pytest.mark.parametrize("name", ["s.m4a", "s.aac"])
def test_sound_that_is_read_again_has_the_same_samples(
    name: str, make_clip: Make, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder of its own begins as the first one did."""
    path = make_clip(name=name, codec=None, audio="aac", audio_s=8.0)
    right = decode_clip(path, SPREAD, limits)
    monkeypatch.setattr(Source, "audio_length_s", 1.0)
    again = decode_clip(path, SPREAD, limits)
    assert right.waveform is not None
    assert again.window_starts_s == pytest.approx(right.window_starts_s, abs=0.1)
    monkeypatch.setattr(Source, "audio_length_s", again.duration_s)
    np.testing.assert_array_equal(decode_clip(path, SPREAD, limits).waveform, again.waveform)


def test_sound_that_is_short_after_all_is_used_whole(
    ramp: Path, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may also claim too much."""
    monkeypatch.setattr(Source, "audio_length_s", 40.0)
    clip = decode_clip(ramp, replace(SPREAD, max_audio_s=20.0), limits)
    assert clip.waveform is not None
    assert (len(clip.waveform), clip.window_starts_s, clip.warnings) == (LENGTH_S * RATE_HZ, (), ())


EVENT = slice(3 * RATE_HZ, 5 * RATE_HZ)  # between the windows


def _event() -> np.ndarray:
    samples = np.zeros(int(LENGTH_S * RATE_HZ))
    samples[EVENT] = 9_000
    return samples


@pytest.mark.parametrize("segment_s", [None, 4.0], ids=["whole", "segments"])
@pytest.mark.parametrize("n_frames", [0, 12], ids=["sound", "film"])
@pytest.mark.parametrize(
    ("n_windows", "starts_s"), [(3, (3.0, 4.0)), (1, (4.0,))], ids=["all that is audible", "some of it"]
)
def test_sound_that_is_audible_between_the_windows_is_used_where_it_is(
    n_windows: int,
    starts_s: tuple[float, ...],
    n_frames: int,
    segment_s: float | None,
    tmp_path: Path,
    limits: DecodeLimits,
) -> None:
    """Digital silence would not represent the clip; what is used does not depend on segments."""
    path = _write(tmp_path / "s.mkv", "pcm_s16le", _event(), lambda _: True, n_frames)
    spec = replace(SPREAD, n_windows=n_windows, max_audio_s=1.0, segment_s=segment_s)
    clip = decode_clip(path, spec, limits)
    assert (clip.audio.used, clip.visual.used) == (True, n_frames > 0)
    assert clip.window_starts_s == pytest.approx(starts_s)
    assert clip.waveform is not None
    np.testing.assert_allclose(clip.waveform, np.full(len(starts_s) * RATE_HZ, 9_000 / 32_768), atol=1e-6)
    where = "" if segment_s is None else " for the clip as a whole"
    assert clip.warnings == (f"Of the sound, only pieces that are not silent were used{where}.",)
    assert [one.audio.used for one in clip.segments] == ([] if segment_s is None else [True, True, False])


@pytest.mark.parametrize("at_s", [0.0, 0.95, 11.95], ids=["start", "edge", "end"])
def test_the_shortest_sound_is_found(at_s: float, tmp_path: Path, limits: DecodeLimits) -> None:
    """The windows that are listened to then leave nothing out."""
    samples = 0 * _event()
    samples[round(at_s * RATE_HZ) :][:800] = 9_000
    clip = decode_clip(_write(tmp_path / "s.mkv", "pcm_s16le", samples, lambda _: True), SPREAD, limits)
    assert clip.waveform is not None
    assert clip.waveform.max() == pytest.approx(9_000 / 32_768, abs=1e-4)
    (start_s,) = clip.window_starts_s
    assert start_s == np.floor(at_s)


def test_few_of_many_audible_windows_are_held_and_those_are_spread(
    tmp_path: Path, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a long recording at once would take as much memory as all of its sound."""
    n_held = []
    add = sound._Audible.add

    def counting(self: sound._Audible, window: Excerpt) -> None:
        add(self, window)
        n_held.append(len(self._kept))

    monkeypatch.setattr(sound._Audible, "add", counting)
    samples = np.full(round(LENGTH_S * RATE_HZ), 9_000)
    samples[round(5.9 * RATE_HZ) : round(6.1 * RATE_HZ)] = 0
    path = _write(tmp_path / "s.mkv", "pcm_s16le", samples, lambda _: True)
    clip = decode_clip(path, replace(SPREAD, n_windows=1, window_s=0.2), limits)
    assert clip.waveform is not None
    assert (len(n_held) > 50, max(n_held), len(clip.waveform)) == (True, 2, 0.2 * RATE_HZ)
    assert 3.0 < clip.window_starts_s[0] < 9.0


def test_of_the_windows_in_a_pause_one_is_held_at_a_time(
    tmp_path: Path, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause passes all of them at once, and may be an hour long."""
    opened, n_held = list[Excerpt](), list[int]()
    add_silence, add = Excerpt.add_silence, sound._Audible.add

    def noting(self: Excerpt, *about: float) -> None:
        opened.append(self)
        add_silence(self, *about)

    def counting(self: sound._Audible, window: Excerpt) -> None:
        n_held.append(sum(one.is_full and bool(one._chunks) for one in opened))
        add(self, window)

    monkeypatch.setattr(Excerpt, "add_silence", noting)
    monkeypatch.setattr(sound._Audible, "add", counting)
    samples = 0 * _event()
    samples[:800] = samples[-800:] = 9_000
    path = _with_pause(tmp_path / "s.mkv", "pcm_s16le", samples, slice(800, len(samples) - 1600))
    clip = decode_clip(path, replace(SPREAD, max_audio_s=0.2, window_s=0.2), limits)
    assert (len(n_held) > 50, max(n_held)) == (True, 1)
    assert len(clip.window_starts_s) == 2


def test_windows_that_are_through_hold_no_filters(tmp_path: Path, limits: DecodeLimits) -> None:
    """Those of 400 windows take a gigabyte."""
    path = _write(tmp_path / "s.mkv", "pcm_s16le", 0 * _event(), lambda _: True)
    few = replace(limits, memory_bytes=256 * 1024**2)
    with DecodePool(few, n_workers=1) as pool, pytest.raises(NoTracksError):
        pool.decode(path, replace(SPREAD, window_s=0.03))


@pytest.mark.parametrize("segment_s", [None, 4.0])
def test_sound_that_is_silent_throughout_is_called_so(
    segment_s: float | None, tmp_path: Path, limits: DecodeLimits
) -> None:
    """All of it was listened to."""
    path = _write(tmp_path / "s.mkv", "pcm_s16le", 0 * _event(), lambda _: True)
    with pytest.raises(NoTracksError, match=r"sound: digital silence\)"):
        decode_clip(path, replace(SPREAD, segment_s=segment_s), limits)


def test_sound_is_told_before_frames_are_decoded(
    make_clip: Make, spec: DecodeSpec, limits: DecodeLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it can be encoded meanwhile."""
    order = []

    def reading(*args: Any) -> Any:
        order.append("frames")
        return read_frames(*args)

    monkeypatch.setattr(clip_decoding, "read_frames", reading)
    decode_clip(make_clip(audio="aac"), spec, limits, lambda _: order.append("sound"))
    assert order == ["sound", "frames"]
