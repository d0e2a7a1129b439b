"""Clips to measure with: moving texture and a chord, H.264 + AAC, made here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE_HZ = 44_100


def write_benchmark_clip(path: Path, *, seconds: float, height: int, gop: int, fps: int = 30) -> Path:
    """Write a 16:9 clip whose picture never repeats, as with a real camera."""
    width = height * 16 // 9 // 2 * 2
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (2 * height, 2 * width, 3), np.uint8)
    texture = (
        texture.reshape(height // 4, 8, width // 4, 8, 3)
        .mean((1, 3))
        .repeat(8, 0)
        .repeat(8, 1)
        .astype(np.uint8)
    )
    with av.open(str(path), "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "g": str(gop)})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=RATE_HZ, layout="stereo")
        for index in range(round(seconds * fps)):
            top, left = (3 * index) % height, (5 * index) % width
            picture = np.ascontiguousarray(texture[top : top + height, left : left + width])
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode())
        _write_sound(out, audio, seconds, rng)
    return path


def _write_sound(
    out: av.container.OutputContainer, stream: av.AudioStream, seconds: float, rng: np.random.Generator
) -> None:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * frequency * time_s) for frequency in (220, 277.2, 329.6)) / 6
    wave = (chord + 0.05 * rng.standard_normal(len(time_s))).astype(np.float32)
    for start in range(0, len(wave), 1024):
        part = np.stack([wave[start : start + 1024]] * 2)
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, start, Fraction(1, RATE_HZ)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())
