"""Clips that the tests make for themselves; a level says which frame it is, a corner which way is up."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import OutputContainer

AUDIO_RATE_HZ = 44_100


@dataclass(frozen=True)
class Recipe:
    """How to make a clip.

    Attributes:
        name: File name; its suffix chooses the container.
        codec: Encoder of the picture; None for sound only.
        ticks: Presentation time of each frame, in units of 1/30 s.
        width: Frame width.
        height: Frame height.
        gop: Most frames from one key frame to the next.
        pix_fmt: Pixel format.
        rotation: Counter-clockwise degrees of the display matrix, and whether it mirrors.
        pixel_aspect: Width of a pixel divided by its height.
        video_options: Further options of the video encoder.
        audio: Encoder of the sound; None for no sound.
        tone_hz: Frequency of the sound; 0 for digital silence.
        audio_s: Length of the sound.
        container_options: Options of the container.
    """

    name: str = "clip.mp4"
    codec: str | None = "libx264"
    ticks: Sequence[int] = range(60)
    width: int = 96
    height: int = 64
    gop: int = 30
    pix_fmt: str = "yuv420p"
    rotation: tuple[int, bool] = (0, False)
    pixel_aspect: Fraction = Fraction(1)
    video_options: dict[str, str] = field(default_factory=dict)
    audio: str | None = None
    tone_hz: float = 440.0
    audio_s: float = 2.0
    container_options: dict[str, str] = field(default_factory=dict)


def make(recipe: Recipe, directory: Path) -> Path:
    """Encode a clip."""
    path = directory / recipe.name
    with av.open(str(path), "w", container_options=recipe.container_options) as container:
        video = _video_stream(container, recipe) if recipe.codec is not None else None
        audio: Any = container.add_stream(recipe.audio, rate=AUDIO_RATE_HZ) if recipe.audio else None
        if video is not None:
            for number, tick in enumerate(recipe.ticks):
                container.mux(video.encode(_frame(number, tick, recipe)))
            container.mux(video.encode(None))
        if audio is not None:
            for frame in _sound(recipe, audio.codec_context):
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def picture(number: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Frame `number` as drawn: a level of its own, two ramps, and a bright upper left corner."""
    level = (number * 37) % 128
    across = np.linspace(0, 90, width)[None, :] + np.zeros((height, 1))
    down = np.linspace(0, 90, height)[:, None] + np.zeros((1, width))
    image = np.stack([level + across, level + down, np.full((height, width), 60.0)], axis=-1)
    image[: height // 4, : width // 4] = 250
    return image.astype(np.uint8)


def _video_stream(container: OutputContainer, recipe: Recipe) -> Any:
    stream: Any = container.add_stream(str(recipe.codec), rate=30)
    stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, recipe.pix_fmt
    stream.codec_context.time_base = Fraction(1, 30)
    stream.codec_context.gop_size = recipe.gop
    stream.codec_context.sample_aspect_ratio = recipe.pixel_aspect
    stream.options = dict(recipe.video_options)
    if recipe.codec == "libx264":
        stream.options = {"keyint_min": str(recipe.gop), "sc_threshold": "0", "crf": "18"} | stream.options
    degrees, mirrored = recipe.rotation
    if degrees or mirrored:
        stream.set_display_rotation(degrees, hflip=mirrored)
    return stream


def _frame(number: int, tick: int, recipe: Recipe) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture(number, recipe.width, recipe.height), "rgb24")
    frame = frame.reformat(format=recipe.pix_fmt)
    frame.pts, frame.time_base = tick, Fraction(1, 30)
    return frame


def _sound(recipe: Recipe, context: Any) -> list[av.AudioFrame]:
    """A tone at half of full scale, in frames of the encoder's own format, size and layout."""
    n_samples = round(recipe.audio_s * AUDIO_RATE_HZ)
    tone = 0.5 * np.sin(2 * np.pi * recipe.tone_hz * np.arange(n_samples) / AUDIO_RATE_HZ)
    convert = av.AudioResampler(context.format, context.layout, AUDIO_RATE_HZ, context.frame_size or 1024)
    whole = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], "flt", "mono")
    whole.sample_rate, whole.pts, whole.time_base = AUDIO_RATE_HZ, 0, Fraction(1, AUDIO_RATE_HZ)
    return [*convert.resample(whole), *convert.resample(None)]
