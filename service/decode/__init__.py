"""Decoding: from an untrusted media file to a few square pictures and a mono waveform.

clip      the whole way for one file, in this process
pool      the same in child processes that can be killed (worker is the child, wire what both say)
source    opening a file safely (allowed: what may be opened; sniff: why something was not)
packets   a video stream's packet table
plan      which packets to decode
segments  where the segments of a clip lie (segment_length: as a request says it; segment_tracks: what
          is in them)
reader    running the decoder over them
picture   frame to square RGB picture
video     the four above in order
audio     sound to a mono waveform (downmix: the mean of the channels, at the wanted rate)
"""

from typing import TYPE_CHECKING

from service.decode.pool import DecodePool

if TYPE_CHECKING:
    from service.decode.clip import decode_clip

__all__ = ["DecodePool", "decode_clip"]


def __getattr__(name: str) -> object:
    """Load FFmpeg only where it decodes: a service that uses the pool never has it in its own process."""
    if name != "decode_clip":
        raise AttributeError(name)
    from service.decode import clip

    return clip.decode_clip
