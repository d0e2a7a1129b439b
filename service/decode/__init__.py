"""Decoding: from an untrusted media file to a few square pictures and a mono waveform."""

from service.decode.clip import decode_clip

__all__ = ["decode_clip"]
