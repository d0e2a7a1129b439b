"""Record clips: a scene and a soundscape, drawn from a seed, as an .mp4 of H.264 pictures and AAC sound."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.random import Generator
from numpy.typing import NDArray

from demo_world.drawing import Painter, Scene, draw_scene
from demo_world.outlines import Outlines, trace_outlines
from demo_world.soundtrack import Soundscape, draw_soundscape, synthesise
from demo_world.timbre import Wave
from demo_world.world import World
from service.process import n_processors

Frame = NDArray[np.uint8]
S = TypeVar("S")
T = TypeVar("T")

SMALL_SIZES = ((96, 96), (112, 112), (112, 150), (128, 128), (120, 214), (144, 144), (144, 192), (176, 176))
"""Height and width in pixels of training and test clips."""


@dataclass(frozen=True)
class ClipFormat:
    """How a clip is recorded.

    Attributes:
        duration_s: Length of both tracks.
        fps: Pictures per second.
        height: Of the picture, in pixels, even.
        width: Of the picture, in pixels, even.
        rate_hz: Sample rate of the sound.
        crf: H.264 quality, 0 (lossless) to 51.
        preset: H.264 effort, a name that x264 knows.
    """

    duration_s: float
    fps: int
    height: int
    width: int
    rate_hz: int
    crf: int
    preset: str = "superfast"


@dataclass(frozen=True)
class ClipPlan:
    """A whole clip before it is rendered; the same plan and seed give the same file."""

    scene: Scene
    soundscape: Soundscape
    format: ClipFormat
    seed: int


class Studio:
    """Plans and records clips of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._outlines: Outlines = trace_outlines(tuple(shape.key for shape in world.shapes))
        self._sound_keys = tuple(sound.key for sound in world.sounds)

    def plan(self, rng: Generator, shape: int, sound: int, clip_format: ClipFormat | None = None) -> ClipPlan:
        """Draw every nuisance of a clip that shows the shape and sounds like the sound."""
        world = self.world
        return ClipPlan(
            scene=draw_scene(rng, shape, len(world.shapes), world.picture),
            soundscape=draw_soundscape(rng, sound, len(world.sounds), world.sound),
            format=clip_format or small_format(rng, world.picture.crf),
            seed=int(rng.integers(2**63)),
        )

    def record(self, plan: ClipPlan, path: Path, *, picture: bool = True, sound: bool = True) -> None:
        """Render the plan and write it; either track can be left out."""
        rngs = np.random.default_rng(plan.seed).spawn(2)
        write_clip(
            path,
            plan.format,
            self._frames(plan, rngs[0]) if picture else None,
            self.soundtrack(plan, rngs[1]) if sound else None,
        )

    def soundtrack(self, plan: ClipPlan, rng: Generator) -> Wave:
        """Synthesise the sound of a plan: float32 [n_samples]."""
        form = plan.format
        return synthesise(plan.soundscape, self._sound_keys, form.duration_s, form.rate_hz, rng)

    def _frames(self, plan: ClipPlan, rng: Generator) -> Iterator[Frame]:
        painter = Painter(plan.scene, self._outlines, plan.format.height, plan.format.width)
        for index in range(round(plan.format.duration_s * plan.format.fps)):
            yield painter.frame(index / plan.format.fps, rng)


def small_format(rng: Generator, crf: tuple[int, int]) -> ClipFormat:
    """Draw the format of a clip that nobody watches: few pixels, few pictures per second."""
    height, width = SMALL_SIZES[rng.integers(len(SMALL_SIZES))]
    return ClipFormat(
        duration_s=float(rng.uniform(2.0, 3.2)),
        fps=5,
        height=height,
        width=width,
        rate_hz=int(rng.choice((16000, 16000, 24000, 32000))),
        crf=int(rng.integers(crf[0], crf[1] + 1)),
    )


def write_clip(path: Path, form: ClipFormat, frames: Iterator[Frame] | None, wave: Wave | None) -> None:
    """Write an .mp4.

    Args:
        path: Where to.
        form: Rates, sizes and quality.
        frames: uint8 [height, width, 3], RGB; None for a clip without picture.
        wave: float32 [n_samples], mono, -1..1; None for a clip without sound.
    """
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        picture = _add_picture(container, form) if frames is not None else None
        sound = _add_sound(container, form) if wave is not None else None
        if picture is not None and frames is not None:
            for index, frame in enumerate(frames):
                _encode_picture(container, picture, frame, index)
            container.mux(picture.encode(None))
        if sound is not None and wave is not None:
            _encode_sound(container, sound, wave)


def _add_picture(container: OutputContainer, form: ClipFormat) -> VideoStream:
    options = {"crf": str(form.crf), "preset": form.preset}
    stream = container.add_stream("libx264", rate=form.fps, options=options)
    stream.height, stream.width, stream.pix_fmt = form.height, form.width, "yuv420p"
    # One thread: the same bytes on every machine.
    stream.codec_context.thread_count = 1
    return stream


def _add_sound(container: OutputContainer, form: ClipFormat) -> AudioStream:
    stream = container.add_stream("aac", rate=form.rate_hz, layout="mono", options={"aac_coder": "fast"})
    stream.bit_rate = 64_000 if form.rate_hz > 20_000 else 48_000
    return stream


def _encode_picture(container: OutputContainer, stream: VideoStream, frame: Frame, index: int) -> None:
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
    picture.pts, picture.time_base = index, Fraction(1, int(stream.codec_context.framerate or 1))
    container.mux(stream.encode(picture))


def _encode_sound(container: OutputContainer, stream: AudioStream, wave: Wave) -> None:
    rate = stream.codec_context.sample_rate
    # One second a frame; the encoder's own queue cuts it into AAC frames.
    for start in range(0, len(wave), rate):
        samples = np.ascontiguousarray(wave[None, start : start + rate])
        part = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        part.sample_rate, part.pts, part.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def clip_rng(seed: int, stream: int, *numbers: int) -> Generator:
    """The random numbers of one clip, independent of those of every other clip."""
    return np.random.default_rng([seed, stream, *numbers])


def run_in_processes(work: Callable[[S], T], tasks: Sequence[S]) -> Iterator[T]:
    """Results of `work` on each task, in order; every processor gets a fresh process."""
    with ProcessPoolExecutor(n_processors(), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, tasks)
