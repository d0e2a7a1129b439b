"""One clip from file to values: open, read every packet once, decode what is wanted."""

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from service.decode.audio import Sound
from service.decode.container import UNREADABLE, Source, open_source
from service.decode.packets import PacketLog, Timeline
from service.decode.segments import SILENT, Layout, Span, cut, is_silent, pictures_of, sounds_of
from service.decode.video import VideoFrames, read_frames
from service.errors import ClipTooLongError, NoTracksError
from service.media import Clip, DecodeLimits, DecodeSpec, Segment, Track

_CUT_SHORT = "The file is damaged or cut short: only its readable part was used."
_NO_FRAMES = VideoFrames(None, np.empty(0), None, 0, ())
# A single frame may have no length of its own.
_SHORTEST_PICTURE_S = 1e-3

_Sound = npt.NDArray[np.float32]


def decode_clip(path: Path, spec: DecodeSpec, limits: DecodeLimits) -> Clip:
    """Decode the frames and the sound that a model wants from an untrusted file, in this process.

    The same file gives the same bytes every time. Time and memory are not limited here; `DecodePool` does
    that.

    Args:
        path: The file; only its content matters, not its name.
        spec: What the model wants.
        limits: What the clip may cost.

    Raises:
        MediaError: When the clip cannot be used, in one of its kinds.
    """
    with open_source(path, limits) as source:
        return _Decoding(source, path, spec, limits).clip()


class _Decoding:
    """The parts of one clip while they come together."""

    def __init__(self, source: Source, path: Path, spec: DecodeSpec, limits: DecodeLimits) -> None:
        self._source = source
        self._spec = spec
        self._limits = limits
        self._log = PacketLog(source.video, path) if source.video is not None else None
        self._sound = Sound(source.audio, spec, limits) if source.audio is not None else None
        self._first_stamps: dict[int, int] = {}
        self._longest = {s.index: limits.max_duration_s / float(s.time_base or 1) for s in source.wanted}
        self._warnings: list[str] = []

    def clip(self) -> Clip:
        self._scan()
        timeline = self._log.timeline() if self._log is not None and len(self._log) else None
        sound, audio = self._read_sound()
        layout = self._lay_out(timeline, sound)
        frames, visual = self._read_frames(timeline, layout)
        if not visual.used and not audio.used:
            raise NoTracksError(
                f"Neither picture nor sound could be used (picture: {visual.detail}; sound: {audio.detail}). "
                "Send a clip with a playable video or audio track."
            )
        if not visual.used:  # a picture that turned out to be undecodable has no length
            layout = self._lay_out(None, sound)
        return Clip(
            frames=frames.pictures,
            frame_times_s=frames.times_s,
            waveform=self._whole(sound) if audio.used and sound is not None else None,
            duration_s=layout.duration_s,
            visual=visual,
            audio=audio,
            warnings=tuple(self._warnings),
            n_frames_decoded=frames.n_decoded,
            segments=self._fill(layout, frames, visual, sound, audio),
            sound=None if self._spec.segment_s is None else sound,
        )

    def _scan(self) -> None:
        """Read every packet once: sound is decoded as it comes, the picture's packets are collected."""
        if not self._source.wanted:  # PyAV takes none for all
            return
        try:
            for packet in self._source.container.demux(self._source.wanted):
                if packet.size == 0:  # PyAV's end marks; decoding ends elsewhere
                    continue
                self._check_time(packet)
                if self._log is not None and packet.stream is self._source.video:
                    self._log.add(cast("Packet[VideoStream]", packet))
                elif self._sound is not None:
                    self._sound.add(cast("Packet[AudioStream]", packet))
        except UNREADABLE:
            self._warnings.append(_CUT_SHORT)

    def _check_time(self, packet: "Packet[Stream]") -> None:
        """Refuse a clip that is too long by its timestamps; what its header says may be a lie."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return
        first = self._first_stamps.setdefault(packet.stream_index, stamp)
        # Stamps may also jump backwards, and the last packet may claim to last for years.
        if abs(stamp - first) + (packet.duration or 0) > self._longest[packet.stream_index]:
            raise ClipTooLongError(
                f"The clip is longer than {self._limits.max_duration_s:g} seconds. "
                "Cut out the part that matters."
            )

    def _read_sound(self) -> tuple[_Sound | None, Track]:
        """All the sound that was asked for, and whether the part of it that stands for the clip is used."""
        if self._sound is None:
            return None, self._source.sound
        sound = self._sound.waveform()
        if len(sound) == 0:
            return None, _unreadable("sound", self._sound.n_errors)
        if self._sound.n_errors:
            self._warnings.append("Parts of the sound are damaged and were left out.")
        if self._sound.is_cut:
            where = "" if self._spec.segment_s is None else " for the clip as a whole"
            self._warnings.append(
                f"Only the first {self._spec.max_audio_s:g} seconds of the sound were used{where}."
            )
        return sound, SILENT if is_silent(self._whole(sound)) else self._source.sound

    def _whole(self, sound: _Sound) -> _Sound:
        """The part of the sound that stands for the clip."""
        return sound[: round(self._spec.max_audio_s * self._spec.sample_rate_hz)]

    def _lay_out(self, timeline: Timeline | None, sound: _Sound | None) -> Layout:
        start_s = 0.0 if timeline is None else timeline.start_s
        picture = heard = None
        if timeline is not None:
            picture = Span(start_s, start_s + max(timeline.duration_s, _SHORTEST_PICTURE_S))
        if sound is not None and self._sound is not None:
            heard = self._sound.span(otherwise_s=start_s)
        return Layout.of(picture, heard)

    def _segments(self, layout: Layout) -> list[Span]:
        if self._spec.segment_s is None or layout.duration_s == 0:
            return []
        return cut(layout.duration_s, self._spec.segment_s, self._limits.max_segments)

    def _read_frames(self, timeline: Timeline | None, layout: Layout) -> tuple[VideoFrames, Track]:
        if self._log is None or self._source.video is None:
            return _NO_FRAMES, self._source.visual
        if timeline is None:
            return _NO_FRAMES, _unreadable("picture", 0)
        segments = self._segments(layout)
        parts = [part for segment in segments if (part := layout.picture_in(segment)) is not None]
        frames = read_frames(self._source.video, self._log, timeline, self._spec, self._limits, parts)
        if frames.pictures is None:
            return frames, _unreadable("picture", 1)
        self._warnings.extend(frames.warnings)
        return frames, self._source.visual

    def _fill(
        self, layout: Layout, frames: VideoFrames, visual: Track, sound: _Sound | None, audio: Track
    ) -> tuple[Segment, ...]:
        """The segments, each with what it has of both tracks."""
        spans, rate_hz = self._segments(layout), self._spec.sample_rate_hz
        seen = pictures_of(spans, layout, frames.parts, visual)
        heard = sounds_of(spans, layout, sound, rate_hz, audio if sound is None else self._source.sound)
        return tuple(
            Segment(span.start_s, span.end_s, pictures, samples, visual=picture, audio=sound)
            for span, (pictures, picture), (samples, sound) in zip(spans, seen, heard, strict=True)
        )


def _unreadable(what: str, n_errors: int) -> Track:
    """The report of a track of which nothing came out."""
    if n_errors:
        return Track(
            used=False, reason="undecodable", detail=f"the {what} is damaged, encrypted or not supported"
        )
    return Track(used=False, reason="no_samples", detail=f"the {what}'s track is empty")
