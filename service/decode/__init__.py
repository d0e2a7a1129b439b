"""Decode: turn an untrusted media file into a few square pictures and a mono waveform.

pool       decodes in child processes that can be killed (worker: such a process; sandbox: what it gives up;
           wire: their protocol; messages: how it is sent)
clip_decoding  decodes one file in the current process
container  opens a file safely, chooses its streams and reads their packets (formats: what is allowed, and
           what each format is like; clock: timestamps that jump, made to go on)
packets    the packet table of a video stream, and which packets to decode
video      decodes these packets to pictures (frame_reader: one decoder; picture: converts one frame)
sound      the sound of a clip, whole or as windows spread over it (audio: frames of sound to mono samples)
segments   where the segments of a clip start and end, and which data is in each
"""

from typing import TYPE_CHECKING

from service.decode.pool import DecodePool

if TYPE_CHECKING:
    from service.decode.clip_decoding import decode_clip

__all__ = ["DecodePool", "decode_clip"]


def __getattr__(name: str) -> object:
    """Import FFmpeg lazily: a service that decodes in the pool never loads it into its own process."""
    if name != "decode_clip":
        raise AttributeError(name)
    from service.decode import clip_decoding

    return clip_decoding.decode_clip
