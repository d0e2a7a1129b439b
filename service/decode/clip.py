"""One clip from file to values: open, read every packet once, decode what is wanted."""

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from service.decode.audio import Sound, is_silent
from service.decode.packets import PacketLog
from service.decode.source import UNREADABLE, Source, open_source
from service.decode.video import Frames, read_frames
from service.errors import ClipTooLongError, NoTracksError
from service.media import Clip, DecodeLimits, DecodeSpec, Track

_CUT_SHORT = "The file is damaged or cut short: only its readable part was used."
_NO_FRAMES = Frames(None, np.empty(0), 0.0, 0, ())


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
        self._sound = Sound(source.audio, spec) if source.audio is not None else None
        self._first_stamps: dict[int, int] = {}
        self._longest = {s.index: limits.max_duration_s / float(s.time_base or 1) for s in source.wanted}
        self._warnings: list[str] = []

    def clip(self) -> Clip:
        self._scan()
        waveform, audio = self._read_sound()
        frames, visual = self._read_frames()
        if not visual.used and not audio.used:
            raise NoTracksError(
                f"Neither picture nor sound could be used (picture: {visual.detail}; sound: {audio.detail}). "
                "Send a clip with a playable video or audio track."
            )
        seen_s = frames.duration_s if visual.used else 0.0
        heard_s = 0.0 if waveform is None else len(waveform) / self._spec.sample_rate_hz
        return Clip(
            frames=frames.pictures,
            frame_times_s=frames.times_s,
            waveform=waveform if audio.used else None,
            duration_s=max(seen_s, heard_s),
            visual=visual,
            audio=audio,
            warnings=tuple(self._warnings),
            n_frames_decoded=frames.n_decoded,
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

    def _read_sound(self) -> tuple[npt.NDArray[np.float32] | None, Track]:
        if self._sound is None:
            return None, self._source.sound
        waveform = self._sound.waveform()
        if len(waveform) == 0:
            return None, _unreadable("sound", self._sound.n_errors)
        if self._sound.n_errors:
            self._warnings.append("Parts of the sound are damaged and were left out.")
        if self._sound.is_cut:
            self._warnings.append(
                f"Only the first {self._spec.max_audio_s:g} seconds of the sound were used."
            )
        if is_silent(waveform):
            return waveform, Track(used=False, reason="silent", detail="digital silence")
        return waveform, self._source.sound

    def _read_frames(self) -> tuple[Frames, Track]:
        if self._log is None or self._source.video is None:
            return _NO_FRAMES, self._source.visual
        if len(self._log) == 0:
            return _NO_FRAMES, _unreadable("picture", 0)
        frames = read_frames(self._source.video, self._log, self._spec, self._limits)
        if frames.pictures is None:
            return frames, _unreadable("picture", 1)
        self._warnings.extend(frames.warnings)
        return frames, self._source.visual


def _unreadable(what: str, n_errors: int) -> Track:
    """The report of a track of which nothing came out."""
    if n_errors:
        return Track(
            used=False, reason="undecodable", detail=f"the {what} is damaged, encrypted or not supported"
        )
    return Track(used=False, reason="no_samples", detail=f"the {what}'s track is empty")
