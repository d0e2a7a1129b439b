"""Clips to measure with: a camera that pans, something that moves, grain, and a chord; H.264 and AAC.

Grain and motion are chosen so that bit rates and decoding times are like those of real clips: about 1 Mbit/s
at 360p and 5 to 6 Mbit/s at 1080p.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 44_100
_GRAIN = 2.0


def write_benchmark_clip(path: Path, *, seconds: float, height: int, gop: int, fps: int = 30) -> Path:
    """Write a 16:9 clip whose picture never repeats, as with a real camera."""
    width = height * 16 // 9 // 2 * 2
    rng = np.random.default_rng(0)
    scene = _scene(rng, 2 * height, 2 * width)
    grain = [np.rint(rng.normal(0, _GRAIN, (height, width, 1))).astype(np.int16) for _ in range(7)]
    with av.open(str(path), "w", format="mp4") as out:
        settings = {"preset": "fast", "g": str(gop), "keyint_min": str(min(gop, 25))}
        video = out.add_stream("libx264", rate=fps, options=settings)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=RATE_HZ, layout="stereo")
        for index in range(round(seconds * fps)):
            seen = _picture(scene, height, width, index / fps) + grain[index % len(grain)]
            picture = np.ascontiguousarray(seen.clip(0, 255).astype(np.uint8))
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode())
        _write_sound(out, audio, seconds, rng)
    return path


def _scene(rng: np.random.Generator, height: int, width: int) -> NDArray[np.int16]:
    """Coarse and fine texture, larger than what the camera sees at once."""
    layers = np.zeros((height, width, 3))
    for cell, share in ((64, 0.5), (16, 0.3), (4, 0.2)):
        tiles = rng.integers(0, 255, (height // cell + 1, width // cell + 1, 3))
        layers += share * tiles.repeat(cell, 0).repeat(cell, 1)[:height, :width]
    return layers.astype(np.int16)


def _picture(scene: NDArray[np.int16], height: int, width: int, t: float) -> NDArray[np.int16]:
    """The camera's view at a time, with a square that moves against it."""
    top, left = (
        round((0.5 + 0.45 * np.sin(0.7 * t)) * height),
        round((0.5 + 0.45 * np.sin(0.45 * t + 1)) * width),
    )
    seen = scene[top : top + height, left : left + width].copy()
    y, x, half = (
        round(height * (0.5 + 0.3 * np.sin(1.9 * t))),
        round(width * (0.5 + 0.35 * np.cos(1.3 * t))),
        height // 5,
    )
    seen[max(0, y - half) : y + half, max(0, x - half) : x + half] *= -1
    return seen % 256


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


def repeat_clip(clip: Path, n_times: int, path: Path) -> Path:
    """Write a clip that shows another one several times, with the same coded frames.

    Args:
        clip: That one, which begins with a key frame.
        n_times: How often it is shown.
        path: Of the new clip.
    """
    with av.open(str(clip)) as source, av.open(str(path), "w", format="mp4") as out:
        streams = {one.index: out.add_stream_from_template(one) for one in source.streams}
        # Sound before zero is there to make a decoder ready; it would overlap the repetition before.
        packets = [(one, one.pts, one.dts) for one in source.demux()]
        timed = [
            (packet, pts, dts)
            for packet, pts, dts in packets
            if pts is not None and dts is not None and pts >= 0
        ]
        lengths = {
            index: sum(one.duration or 0 for one, *_ in timed if one.stream_index == index)
            for index in streams
        }
        for number in range(n_times):
            for packet, pts, dts in timed:
                new, later = av.Packet(bytes(packet)), number * lengths[packet.stream_index]
                new.stream, new.time_base = streams[packet.stream_index], packet.time_base
                new.pts, new.dts = pts + later, dts + later
                new.duration, new.is_keyframe = packet.duration, packet.is_keyframe
                out.mux(new)
    return path
