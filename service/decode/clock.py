"""The clock of a file whose timestamps may jump, made one that goes on."""

from __future__ import annotations

from dataclasses import dataclass

from av.packet import Packet
from av.stream import Stream

# Formats in which recordings may follow each other, each with a clock of its own.
_MAY_JUMP = frozenset({"mpegts", "mpeg"})
# What is so much later than any packet is due, or earlier than the one before, is of another clock; less is a
# gap, or disorder. Later: as `ffmpeg` has it (-dts_delta_threshold); earlier: more than frames are reordered.
_AHEAD_S, _BACK_S = 10.0, 0.5


@dataclass(frozen=True)
class _Position:
    """Where a stream is.

    Attributes:
        offset_s: What is added to its stamps.
        last_s: Decoding time of its last packet, after that.
        due_s: When the next one is due.
    """

    offset_s: float
    last_s: float
    due_s: float


class Clock:
    """Changes timestamps so that the clock of a file goes on where it jumps, as players and `ffmpeg` do.

    The stream that jumps first decides by how much; the others, which may still have packets of the clock
    before, follow when they jump themselves. So picture and sound stay together.

    Args:
        format_name: Of the container; in most formats nothing is changed.
    """

    def __init__(self, format_name: str) -> None:
        self._may_jump = format_name in _MAY_JUMP
        self._newest_s = 0.0
        self._positions: dict[int, _Position] = {}

    def correct(self, packet: Packet[Stream]) -> None:
        """Change the timestamps of the next packet, if its clock has jumped."""
        if not self._may_jump or packet.time_base is None:
            return
        unit = float(packet.time_base)
        if packet.dts is not None:
            self._follow(packet.stream_index, packet.dts * unit, (packet.duration or 0) * unit)
        position = self._positions.get(packet.stream_index)
        if position is not None and position.offset_s:
            n_ticks = round(position.offset_s / unit)
            packet.pts, packet.dts = (
                None if stamp is None else stamp + n_ticks for stamp in (packet.pts, packet.dts)
            )

    def _follow(self, stream: int, stamp_s: float, length_s: float) -> None:
        """Move the position of a stream behind its next packet."""
        offset_s = self._offset_s(stamp_s, self._positions.get(stream))
        last_s = stamp_s + offset_s
        self._positions[stream] = _Position(offset_s, last_s, last_s + length_s)

    def _offset_s(self, stamp_s: float, before: _Position | None) -> float:
        if before is None:
            return self._newest_s
        for offset_s in (before.offset_s, self._newest_s):
            # A stream that pauses, while another goes on, has not jumped.
            others = [one.due_s for one in self._positions.values() if one.offset_s == offset_s]
            latest_s = max([before.due_s, *others]) + _AHEAD_S
            if before.last_s - _BACK_S < stamp_s + offset_s < latest_s:
                return offset_s
        self._newest_s = before.due_s - stamp_s
        return self._newest_s
