"""The clock of a file whose timestamps may jump, made one that goes on."""

from __future__ import annotations

from dataclasses import dataclass

from av.packet import Packet
from av.stream import Stream

# In these, recordings may follow each other, each with a clock of its own, or a stream that broke off.
MAY_JUMP = frozenset({"mpegts", "mpeg", "flv"})
# What is so much later than any packet is due, or earlier than the one before, is of another clock; less is a
# gap, or disorder. Later: as `ffmpeg` has it (-dts_delta_threshold); earlier: more than frames are reordered.
_AHEAD_S, _BACK_S = 10.0, 0.5


@dataclass(frozen=True)
class _Position:
    """Where a stream is.

    Attributes:
        offset_s: What is added to its stamps.
        due_s: When its next packet is due, by decoding time, after that.
        earliest_s: Nothing of the same clock comes before.
    """

    offset_s: float
    due_s: float
    earliest_s: float


class Clock:
    """Changes timestamps so that the clock of a file goes on where it jumps, as players and `ffmpeg` do.

    The stream that jumps first decides by how much; the others, which may still have packets of the clock
    before, follow when they jump themselves. So picture and sound stay together.

    Args:
        format_name: Of the container; in most formats nothing is changed.
    """

    def __init__(self, format_name: str) -> None:
        self._may_jump = format_name in MAY_JUMP
        self._newest_s = 0.0
        self._positions: dict[int, _Position] = {}
        self._delays: dict[int, int] = {}

    def correct(self, packet: Packet[Stream]) -> None:
        """Change the timestamps of the next packet, if its clock has jumped."""
        if not self._may_jump or packet.time_base is None:
            return
        stream, unit = packet.stream_index, float(packet.time_base)
        self._follow(stream, None if packet.dts is None else packet.dts * unit, (packet.duration or 0) * unit)
        if stream in self._positions and (n_ticks := round(self._positions[stream].offset_s / unit)):
            packet.pts, packet.dts = (
                None if stamp is None else stamp + n_ticks for stamp in (packet.pts, packet.dts)
            )
        if packet.pts is not None and packet.dts is not None:
            if abs(packet.pts - packet.dts) * unit > _AHEAD_S:
                # FFmpeg makes up the time of the last frame from that of the next, which is of another clock.
                packet.pts = packet.dts + self._delays.get(stream, 0)
            self._delays[stream] = packet.pts - packet.dts

    def _follow(self, stream: int, stamp_s: float | None, length_s: float) -> None:
        """Move the position of a stream behind its next packet, whose time may be unknown."""
        before = self._positions.get(stream)
        if stamp_s is None:
            if before is not None:
                self._positions[stream] = _Position(before.offset_s, before.due_s + length_s, before.due_s)
            return
        offset_s = self._newest_s if before is None else self._offset_s(stamp_s, before)
        at_s = earliest_s = stamp_s + offset_s
        if before is not None and before.offset_s == offset_s and at_s > before.due_s + _BACK_S:
            earliest_s = before.due_s  # this stamp alone may be wrong, and the next one where it should be
        self._positions[stream] = _Position(offset_s, at_s + length_s, earliest_s)

    def _offset_s(self, stamp_s: float, before: _Position) -> float:
        for offset_s in (before.offset_s, self._newest_s):
            if before.earliest_s - _BACK_S < stamp_s + offset_s < self._latest_s(offset_s, before) + _AHEAD_S:
                return offset_s
        self._newest_s = self._latest_s(before.offset_s, before) - stamp_s
        return self._newest_s

    def _latest_s(self, offset_s: float, before: _Position) -> float:
        """When a packet of that clock is due: a stream that pauses, while another goes on, has not jumped."""
        return max(
            [before.due_s, *(one.due_s for one in self._positions.values() if one.offset_s == offset_s)]
        )
