"""Decoding: from an untrusted media file to a few square pictures and a mono waveform.

clip      the whole way for one file, in this process
pool      the same in child processes that can be killed (worker is the child, wire what both say)
source    opening a file safely (allowed: what may be opened; sniff: why something was not)
packets   a video stream's packet table
plan      which packets to decode
reader    running the decoder over them
picture   frame to square RGB picture
video     the four above in order
audio     sound to a mono waveform
"""

from service.decode.clip import decode_clip
from service.decode.pool import DecodePool

__all__ = ["DecodePool", "decode_clip"]
