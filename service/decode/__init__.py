"""Decoding: from an untrusted media file to a few square pictures and a mono waveform.

pool       decodes in child processes that can be killed (worker is the child, wire what both say)
clip       the whole way for one file, in this process
container  opens a file safely, or says why not
packets    a video stream's packet table, and which packets to decode
video      runs the decoder over them (picture: one frame to a square RGB picture)
audio      sound to a mono waveform: the mean of the channels, at the wanted rate
segments   where the segments of a clip lie, and what is in them
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
