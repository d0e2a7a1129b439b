"""The clock of a file whose timestamps may jump, made one that goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from av.packet import Packet
from av.stream import Stream

from service.decode.formats import MAY_JUMP

# What is so much earlier than the packet before is of another clock. Frames are reordered by less.
_BACK_S = 0.5


@dataclass(frozen=True)
class _Position:
    """Where a stream is.

    Attributes:
        offset_s: What is added to its stamps.
        former_s: What was, before its clock jumped last.
        due_s: When its next packet is due, by decoding time, after that.
        earliest_s: Nothing of the same clock comes before.
    """

    offset_s: float
    former_s: float
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
        self._ahead_s = MAY_JUMP.get(format_name)
        self._newest_s = 0.0
        self._positions: dict[int, _Position] = {}
        self._delays: dict[int, int] = {}

    def correct(self, packet: Packet[Stream]) -> None:
        """Change the timestamps of the next packet, if its clock has jumped."""
        if self._ahead_s is None or packet.time_base is None:
            return
        stream, unit = packet.stream_index, float(packet.time_base)
        self._follow(stream, None if packet.dts is None else packet.dts * unit, (packet.duration or 0) * unit)
        if stream in self._positions and (n_ticks := round(self._positions[stream].offset_s / unit)):
            packet.pts, packet.dts = (
                None if stamp is None else stamp + n_ticks for stamp in (packet.pts, packet.dts)
            )
        if packet.pts is not None and packet.dts is not None:
            if abs(packet.pts - packet.dts) * unit > self._ahead_s:
                # FFmpeg makes up the time of the last frame from that of the next, which is of another clock.
                packet.pts = packet.dts + self._delays.get(stream, 0)
            self._delays[stream] = packet.pts - packet.dts

    def _follow(self, stream: int, stamp_s: float | None, length_s: float) -> None:
        """Move the position of a stream behind its next packet, whose time may be unknown."""
        before = self._positions.get(stream)
        if stamp_s is None:
            if before is not None:
                due_s = before.due_s + length_s
                self._positions[stream] = replace(before, due_s=due_s, earliest_s=before.due_s)
            return
        if before is None:
            before = _Position(self._newest_s, self._newest_s, stamp_s + self._newest_s, -math.inf)
        offset_s = self._offset_s(stamp_s, before)
        at_s = stamp_s + offset_s
        self._positions[stream] = _Position(
            offset_s,
            before.former_s if offset_s == before.offset_s else before.offset_s,
            at_s + length_s,
            # Of what is ahead the stamp alone may be wrong, and the next one where it should be.
            before.due_s if at_s > before.due_s + _BACK_S else at_s,
        )

    def _offset_s(self, stamp_s: float, before: _Position) -> float:
        """What to add to a stamp: what is added to others, if that fits, or else what puts it behind all."""
        others = [one.offset_s for one in self._positions.values()]
        for offset_s in (before.offset_s, before.former_s, self._newest_s, *others):
            latest_s = self._latest_s(offset_s, before) + (self._ahead_s or 0)
            if before.earliest_s - _BACK_S < stamp_s + offset_s < latest_s:
                return offset_s
        self._newest_s = self._latest_s(before.offset_s, before) - stamp_s
        return self._newest_s

    def _latest_s(self, offset_s: float, before: _Position) -> float:
        """When a packet of that clock is due: a stream that pauses, while another goes on, has not jumped."""
        return max(
            [before.due_s, *(one.due_s for one in self._positions.values() if one.offset_s == offset_s)]
        )
