"""Clips that the tests make for themselves; a level says which frame it is, a corner which way is up."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        ticks: Presentation time of each frame, in units of 1 / fps s.
        fps: Frame rate.
        width: Frame width.
        height: Frame height.
        gop: Most frames from one key frame to the next.
        pix_fmt: Pixel format.
        rotation: Counter-clockwise degrees of the display matrix, and whether it mirrors.
        pixel_aspect: Width of a pixel divided by its height.
        video_options: Further options of the video encoder.
        audio: Encoder of the sound; None for no sound.
        layout: Layout of the sound; the same tone is in every channel.
        tone_hz: Frequency of the sound; 0 for digital silence.
        level: Peak of the tone.
        audio_s: Length of the sound.
        rate_hz: Sample rate of the sound.
        container_options: Options of the container.
    """

    name: str = "clip.mp4"
    codec: str | None = "libx264"
    ticks: Sequence[int] = range(60)
    fps: int = 30
    width: int = 96
    height: int = 64
    gop: int = 30
    pix_fmt: str = "yuv420p"
    rotation: tuple[int, bool] = (0, False)
    pixel_aspect: Fraction = Fraction(1)
    video_options: dict[str, str] = field(default_factory=dict)
    audio: str | None = None
    layout: str = "stereo"
    tone_hz: float = 440.0
    level: float = 0.5
    audio_s: float = 2.0
    rate_hz: int = AUDIO_RATE_HZ
    container_options: dict[str, str] = field(default_factory=dict)


def make(recipe: Recipe, directory: Path) -> Path:
    """Encode a clip."""
    path = directory / recipe.name
    with (
        _usual_scheduling(),
        av.open(str(path), "w", container_options=recipe.container_options) as container,
    ):
        video = _video_stream(container, recipe) if recipe.codec is not None else None
        audio = (
            _sound_stream(container, recipe.audio, recipe.layout, recipe.rate_hz)
            if recipe.audio is not None
            else None
        )
        if video is not None:
            for number, tick in enumerate(recipe.ticks):
                container.mux(video.encode(_frame(number, tick, recipe)))
            container.mux(video.encode(None))
        if audio is not None:
            _encode_sound(container, audio, _tone(recipe, audio.layout.nb_channels))
    return path


@contextmanager
def _usual_scheduling() -> Iterator[None]:
    """Undo what SVT-AV1 does to the thread that calls it: as root it becomes a real-time one, for good.

    Threads that it starts later are too, and one that spins keeps another on the same processor from running:
    tests far behind this one stood still.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def write_sound(
    path: Path,
    samples: npt.NDArray[np.floating[Any]],
    codec: str,
    *,
    layout: str,
    rate_hz: int = AUDIO_RATE_HZ,
    sample_format: str | None = None,
) -> Path:
    """Encode sound alone.

    Args:
        path: Its suffix chooses the container.
        samples: Float [n_channels, n_samples], -1..1.
        codec: The encoder.
        layout: What the channels are.
        rate_hz: Of the samples and of the file.
        sample_format: What the encoder takes; None for its own choice.
    """
    with av.open(str(path), "w") as container:
        stream = _sound_stream(container, codec, layout, rate_hz)
        if sample_format is not None:
            stream.format = sample_format
        _encode_sound(container, stream, samples)
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
    stream: Any = container.add_stream(str(recipe.codec), rate=recipe.fps)
    stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, recipe.pix_fmt
    stream.codec_context.time_base = Fraction(1, recipe.fps)
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
    image = picture(number, recipe.width, recipe.height)
    if recipe.pix_fmt == "pal8":  # to which nothing converts
        frame = av.VideoFrame.from_ndarray((image[..., 0], _palette(number)), "pal8")  # type: ignore[arg-type]
    else:
        frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=recipe.pix_fmt)
    frame.pts, frame.time_base = tick, Fraction(1, recipe.fps)
    return frame


def _palette(number: int) -> npt.NDArray[np.uint8]:
    """256 colours of alpha, red, green and blue: others every 25 frames."""
    ramp = np.roll(np.arange(256, dtype=np.uint8), 40 * (number // 25))
    return np.stack([np.full(256, 255, np.uint8), ramp, ramp[::-1], ramp], axis=-1)


def _sound_stream(container: OutputContainer, codec: str, layout: str, rate_hz: int = AUDIO_RATE_HZ) -> Any:
    return container.add_stream(codec, rate=rate_hz, layout=layout)


def _tone(recipe: Recipe, n_channels: int) -> npt.NDArray[np.float64]:
    time_s = np.arange(round(recipe.audio_s * recipe.rate_hz)) / recipe.rate_hz
    return np.tile(recipe.level * np.sin(2 * np.pi * recipe.tone_hz * time_s), (n_channels, 1))


def _encode_sound(container: OutputContainer, stream: Any, samples: npt.NDArray[np.floating[Any]]) -> None:
    """Encode samples [n_channels, n_samples] in one go; the stream cuts and converts them as it needs."""
    packed = np.ascontiguousarray(samples.T, dtype=np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, "flt", stream.layout)
    frame.sample_rate, frame.pts, frame.time_base = stream.rate, 0, Fraction(1, stream.rate)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
