"""Decode one clip in the current process: open the file, read every packet once, decode what is needed."""

import math
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from service.arrays import Array
from service.decode.container import Damage, Source, open_source, packets
from service.decode.formats import is_chained_ogg
from service.decode.packets import PacketLog, Timeline
from service.decode.segments import (
    SILENT,
    Layout,
    Span,
    audio_of_segments,
    cut,
    frames_of_segments,
    is_silent,
)
from service.decode.sound import Sound, SoundReader
from service.decode.video import VideoFrames, read_frames
from service.errors import ClipTooLongError, NoTracksError
from service.media import (
    EDGE_TOLERANCE_S,
    Clip,
    ClipSound,
    DecodeLimits,
    DecodeSpec,
    OnSound,
    Segment,
    Track,
    ignore_sound,
)

_CUT_SHORT = "The file is damaged or cut short: only its readable part was used."
_CHAINED = (
    "The file holds several recordings in a row. One could not be read, mostly because its format differs: "
    "only those before it were used."
)
_LATE = "A track that starts late in the file could not be read."
_NO_SEGMENTS = "A still image has no segments."
_SOUND_DAMAGED = "Parts of the sound are damaged and were left out."
_NO_FRAMES = VideoFrames(None, np.empty(0), None, np.empty((0, 0)), 0, ())
# A single frame may have no duration, but a span must be longer than nothing.
_MIN_VISUAL_S = 1e-3


def decode_clip(
    path: Path,
    spec: DecodeSpec,
    limits: DecodeLimits,
    on_sound: OnSound = ignore_sound,
    n_threads: int = 1,
) -> Clip:
    """Decode the frames and the waveform that a model needs from an untrusted file, in the current process.

    Deterministic: the same file gives the same bytes every time, except where frames of VP8 and HEVC are
    damaged: their decoders leave parts of them as the memory was. Time and memory are not limited here; use
    `DecodePool` for that.

    Args:
        path: The file; only its content matters, not its name.
        spec: What the model needs.
        limits: Limits on the cost of the clip.
        on_sound: Called once with the sound, if there is any, before the frames are decoded.
        n_threads: That may decode frames at once; see `read_frames`.

    Raises:
        MediaError: The clip can't be used; the subclass says why.
    """
    with path.open("rb", buffering=0) as file:
        return decode_file(file, spec, limits, on_sound, n_threads)


def decode_file(
    file: BinaryIO, spec: DecodeSpec, limits: DecodeLimits, on_sound: OnSound, n_threads: int
) -> Clip:
    """Same as `decode_clip`, for an open file. Nothing else is opened.

    Args:
        file: The file, without a buffer. Nothing else may move its position meanwhile.
        spec: What the model needs.
        limits: Limits on the cost of the clip.
        on_sound: As there.
        n_threads: As there.

    Raises:
        MediaError: The clip can't be used; the subclass says why.
    """
    with open_source(file, limits) as source:
        decoding = _Decoding(source, spec, limits, n_threads)
        decoding.scan()
        if source.wanted and not source.has_late_track:
            return decoding.clip(on_sound)
    with open_source(file, limits, probe_all=True) as source:
        decoding = _Decoding(source, spec, limits, n_threads)
        decoding.scan()
        return decoding.clip(on_sound)


class _Decoding:
    """The state of decoding one clip. Call `scan` and then `clip`, once each."""

    def __init__(self, source: Source, spec: DecodeSpec, limits: DecodeLimits, n_threads: int) -> None:
        self._source = source
        self._spec = spec
        self._limits = limits
        self._n_threads = n_threads
        video, audio = source.video_stream, source.audio_stream
        self._damage = Damage()
        self._log = PacketLog(video, source, self._damage) if video is not None else None
        self._sound: SoundReader | None = None
        if audio is not None:
            with self._damage.kept_to("sound"):
                self._sound = SoundReader(audio, spec, limits, self._damage, source.audio_length_s)
        self._first_stamps: dict[int, int] = {}
        self._max_ticks = {s.index: limits.max_duration_s / float(s.time_base or 1) for s in source.wanted}
        self._picture_end_s = -math.inf
        self._warnings: list[str] = []

    def clip(self, on_sound: OnSound) -> Clip:
        """The clip, from the packets that `scan` read."""
        timeline = self._log.timeline() if self._log is not None and len(self._log) else None
        if self._source.is_image or (self._source.is_animation and self._log and len(self._log) == 1):
            return self._still(timeline)
        # The first that is known of the length of a stream without timestamps. Those are rounded otherwise.
        if timeline is not None and timeline.duration_s > self._limits.max_duration_s + EDGE_TOLERANCE_S:
            raise self._too_long()
        if timeline is not None:
            self._picture_end_s = timeline.end_s
        sound, audio = self._read_audio()
        used = _used(sound, audio)
        if sound is not None:
            on_sound(used)
        layout = self._lay_out(timeline, sound)
        frames, visual = self._read_frames(timeline, layout)
        if not visual.used and not audio.used:
            self._damage.raise_unexpected()
            raise NoTracksError(
                f"Neither picture nor sound could be used (picture: {visual.detail}; sound: {audio.detail}). "
                "Send a clip with a playable video or audio track."
            )
        if not visual.used:  # a video stream that turned out to be undecodable has no duration
            layout = self._lay_out(None, sound)
        return Clip(
            frames=frames.pictures,
            frame_times_s=frames.times_s,
            waveform=used.waveform,
            duration_s=layout.duration_s,
            visual=visual,
            audio=audio,
            warnings=(*self._file_warnings(), *self._warnings),
            n_frames_decoded=frames.n_decoded,
            segments=self._fill(layout, frames, visual, used.full_waveform, audio),
            full_waveform=used.full_waveform,
            window_starts_s=used.window_starts_s,
            at_key_frames=frames.at_key_frames,
        )

    def _still(self, timeline: Timeline | None) -> Clip:
        """A clip of one frame, without time: as many pictures as the model wants are all the same."""
        frames, visual = self._read_frames(timeline, Layout.of(None, None))
        if not visual.used:
            self._damage.raise_unexpected()
            raise NoTracksError(
                "The image could not be decoded: it is damaged, or has more than "
                f"{self._limits.max_frame_pixels} pixels."
            )
        if self._spec.segment_s is not None:
            self._warnings.append(_NO_SEGMENTS)
        return Clip(
            frames=frames.pictures,
            frame_times_s=frames.times_s,
            waveform=None,
            duration_s=0.0,
            visual=replace(visual, detail=f"{visual.detail}, a still image"),
            audio=Track(used=False, reason="no_stream", detail="a still image has no sound"),
            warnings=(*self._file_warnings(), *self._warnings),
            n_frames_decoded=frames.n_decoded,
        )

    def scan(self) -> None:
        """Read every packet once: audio is decoded at once, video packets are collected.

        Which video packets to decode can only be decided when the timestamps of all are known.
        """
        if not self._source.wanted:  # without streams PyAV would demux all of them
            return
        with self._damage.kept_to("file"):
            for packet in packets(self._source.container, self._source.wanted):
                self._check_time(packet)
                if self._log is not None and packet.stream is self._source.video_stream:
                    self._log.add(cast("Packet[VideoStream]", packet))
                    if self._source.is_image:
                        break
                elif self._sound is not None:
                    self._sound.add(cast("Packet[AudioStream]", packet))

    def _check_time(self, packet: "Packet[Stream]") -> None:
        """Reject a clip that is too long by its timestamps, since the duration in the header may be false."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return
        first = self._first_stamps.setdefault(packet.stream_index, stamp)
        # Timestamps may also jump backwards, and the last packet may claim a duration of years.
        if abs(stamp - first) + (packet.duration or 0) > self._max_ticks[packet.stream_index]:
            raise self._too_long()

    def _too_long(self) -> ClipTooLongError:
        return ClipTooLongError(
            f"The clip is longer than {self._limits.max_duration_s:g} seconds. Cut out the part that matters."
        )

    def _file_warnings(self) -> list[str]:
        """Warnings about what was left out of the file as a whole; call this when all of it has been read."""
        warnings = [_LATE] if self._source.has_late_track else []
        if self._damage.counts["file"]:
            warnings.append(_CHAINED if is_chained_ogg(self._source.file) else _CUT_SHORT)
        return warnings

    def _read_audio(self) -> tuple[Sound | None, Track]:
        """The sound, and whether what represents the clip as a whole is used."""
        if (stream := self._source.audio_stream) is None:
            return None, self._source.audio_track
        sound = None if self._sound is None else self._sound.sound(self._picture_end_s)
        if self._sound is not None and self._sound.was_misled:
            sound = None  # of a long clip it is large
            sound = self._hear_again(stream, self._sound.length_s)
        if sound is None or len(sound.waveform) == 0:
            return None, _unreadable("sound", self._damage.counts["sound"])
        if self._damage.counts["sound"]:
            self._warnings.append(_SOUND_DAMAGED)
        if not sound.window_starts_s:
            return sound, SILENT if is_silent(sound.waveform) else self._source.audio_track
        if is_silent(sound.waveform):
            return self._where_audible(stream, sound)
        self._warnings.append(self._what_was_used(sound))
        return sound, self._source.audio_track

    def _where_audible(self, stream: AudioStream, sound: Sound) -> tuple[Sound, Track]:
        """Other windows in place of those that are silent, where the sound is heard between them."""
        if sound.full is not None and is_silent(sound.full):
            return sound, SILENT
        heard = self._hear_again(stream, sound.length_s, only_audible=True)
        if is_silent(heard.waveform):
            return sound, SILENT
        self._warnings.append(f"Of the sound, only pieces that are not silent were used{self._for_whole}.")
        sound = replace(sound, waveform=heard.waveform, window_starts_s=heard.window_starts_s)
        return sound, self._source.audio_track

    def _what_was_used(self, sound: Sound) -> str:
        """A warning about longer sound."""
        n_windows = len(sound.window_starts_s)
        window_s = self._spec.window_samples / self._spec.sample_rate_hz
        pieces = f"{n_windows} pieces of {window_s:g} seconds" if n_windows > 1 else f"{window_s:g} seconds"
        used = f"{pieces}, spread evenly over it," if n_windows > 1 else f"{pieces} from its middle"
        return f"Of the sound, {used} were used{self._for_whole}."

    @property
    def _for_whole(self) -> str:
        return "" if self._spec.segment_s is None else " for the clip as a whole"

    def _hear_again(self, stream: AudioStream, length_s: float, *, only_audible: bool = False) -> Sound:
        """Read the sound once more, now that its length is known, which the file may have stated wrongly."""
        # For windows alone, all of the sound is not needed again.
        spec = replace(self._spec, segment_s=None) if only_audible else self._spec
        with self._source.again(stream) as (same, stream_packets):
            # With a decoder of its own, since flushing does not bring one back to where it began.
            again = SoundReader(same, spec, self._limits, self._damage, length_s, only_audible=only_audible)
            with self._damage.kept_to("file"):
                for packet in stream_packets:
                    again.add(packet)
            return again.sound(self._picture_end_s)

    def _lay_out(self, timeline: Timeline | None, sound: Sound | None) -> Layout:
        start_s = 0.0 if timeline is None else timeline.start_s
        visual = None
        if timeline is not None:
            visual = Span(start_s, start_s + max(timeline.duration_s, _MIN_VISUAL_S))
        audio = None if sound is None else sound.span(default_start_s=start_s)
        return Layout.of(visual, audio)

    def _segments(self, layout: Layout) -> list[Span]:
        if self._spec.segment_s is None or layout.duration_s == 0:
            return []
        return cut(layout.duration_s, self._spec.segment_s, self._limits.max_segments)

    def _read_frames(self, timeline: Timeline | None, layout: Layout) -> tuple[VideoFrames, Track]:
        if self._log is None:
            return _NO_FRAMES, self._source.visual_track
        if timeline is None:
            return _NO_FRAMES, _unreadable("picture", 0)
        segments = self._segments(layout)
        parts = [part for segment in segments if (part := layout.visual_in(segment)) is not None]
        frames = _NO_FRAMES
        with self._damage.kept_to("picture"):
            frames = read_frames(
                self._source,
                self._log,
                timeline,
                self._spec,
                self._limits,
                self._damage,
                parts,
                self._n_threads,
            )
        if frames.pictures is None:
            return frames, _unreadable("picture", 1)
        self._warnings.extend(frames.warnings)
        return frames, self._source.visual_track

    def _fill(
        self, layout: Layout, frames: VideoFrames, visual: Track, waveform: Array | None, audio: Track
    ) -> tuple[Segment, ...]:
        """The segments, each with its part of both tracks."""
        spans, rate_hz = self._segments(layout), self._spec.sample_rate_hz
        # If the windows of long sound are silent, `audio` says so, but a segment may well be audible.
        track = audio if waveform is None else self._source.audio_track
        of_visual = frames_of_segments(spans, layout, frames.parts, frames.part_times_s, visual)
        of_audio = audio_of_segments(spans, layout, waveform, rate_hz, track)
        return tuple(
            Segment(span.start_s, span.end_s, pictures, times_s, samples, visual=of_picture, audio=of_sound)
            for span, (pictures, times_s, of_picture), (samples, of_sound) in zip(
                spans, of_visual, of_audio, strict=True
            )
        )


def _used(sound: Sound | None, audio: Track) -> ClipSound:
    """What is used of the sound; of a silent clip only all of it, since a segment may well be audible."""
    if sound is None:
        return ClipSound(None)
    if not audio.used:
        return ClipSound(None, sound.full)
    return ClipSound(sound.waveform, sound.full, sound.window_starts_s)


def _unreadable(what: str, n_errors: int) -> Track:
    """The report on a track that nothing could be decoded from."""
    if n_errors:
        return Track(
            used=False, reason="undecodable", detail=f"the {what} is damaged, encrypted or not supported"
        )
    return Track(used=False, reason="no_samples", detail=f"the {what}'s track is empty")
