"""Values of the decode step: what is asked of a clip, what is allowed, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Sampling = Literal["uniform", "middle"]
FrameChoice = Literal["exact", "key"]
Resize = Literal[
    "shorter_side_bicubic_center_crop",
    "shorter_side_bilinear_center_crop",
    "squash_bicubic",
    "squash_bilinear",
]
TrackReason = Literal["no_stream", "undecodable", "no_samples", "silent"]


class ResizeRule(NamedTuple):
    """How a frame becomes a square picture.

    Attributes:
        shape: `shorter_side`: scaled by its shorter side, and the centre square cut out; `squash`: both
            sides scaled to the square's, so that the aspect is not kept.
        filter: By which pixels are averaged; it grows with the frame where that shrinks.
    """

    shape: Literal["shorter_side", "squash"]
    filter: Literal["bicubic", "bilinear"]


RESIZE_RULES: Final[Mapping[Resize, ResizeRule]] = MappingProxyType(
    {
        "shorter_side_bicubic_center_crop": ResizeRule("shorter_side", "bicubic"),
        "shorter_side_bilinear_center_crop": ResizeRule("shorter_side", "bilinear"),
        "squash_bicubic": ResizeRule("squash", "bicubic"),
        "squash_bilinear": ResizeRule("squash", "bilinear"),
    }
)
"""What each `resize` of a bundle means."""

# Frames of a segment: it shows less than a whole clip, and there are many.
_MAX_SEGMENT_FRAMES = 4


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


@dataclass(frozen=True)
class DecodeSpec:
    """What a model wants of a clip. These are facts of the model and come from its bundle.

    Attributes:
        n_frames: Frames to pick; a clip with fewer repeats some.
        image_size_px: Side of the square pictures.
        sample_rate_hz: Rate of the mono waveform.
        max_audio_s: Sound after this many seconds is not read.
        sampling: `uniform`: the midpoints of `n_frames` equal intervals over the clip; `middle`: its middle.
        resize: How a frame becomes a square of `image_size_px`: one of RESIZE_RULES.
        frames: `exact`: what is on screen at the wanted times; `key`: the key frames nearest to them, which
            decode without any other frame.
        segment_s: Length of the segments that the clip is cut into besides; None for none. Their sound is
            read beyond `max_audio_s`.
    """

    n_frames: int
    image_size_px: int
    sample_rate_hz: int
    max_audio_s: float
    sampling: Sampling = "uniform"
    resize: Resize = "shorter_side_bicubic_center_crop"
    frames: FrameChoice = "exact"
    segment_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse a specification that no clip could satisfy."""
        _require(self.n_frames >= 1, "n_frames must be at least 1")
        _require(self.image_size_px >= 1, "image_size_px must be at least 1")
        _require(self.sample_rate_hz >= 1, "sample_rate_hz must be at least 1")
        _require(self.max_audio_s > 0, "max_audio_s must be positive")
        _require(self.sampling in get_args(Sampling), f"sampling must be one of {get_args(Sampling)}")
        _require(self.resize in get_args(Resize), f"resize must be one of {get_args(Resize)}")
        _require(self.frames in get_args(FrameChoice), f"frames must be one of {get_args(FrameChoice)}")
        _require(self.segment_s is None or self.segment_s > 0, "segment_s must be positive")
        _require(self.sampling != "middle" or self.n_frames == 1, "sampling 'middle' picks exactly 1 frame")

    @property
    def n_segment_frames(self) -> int:
        """Frames of each segment, no more than the whole clip has."""
        return min(self.n_frames, _MAX_SEGMENT_FRAMES)


@dataclass(frozen=True)
class DecodeLimits:
    """What one clip may cost. These are settings of the deployment.

    Attributes:
        max_duration_s: Longest clip, measured on its timestamps, not on what its header claims.
        max_frame_pixels: Largest single frame, width x height.
        max_decoded_pixels: Most pixels decoded for one clip, frames x width x height.
        max_streams: Most streams in one file.
        max_segments: Most segments that a clip is cut into.
        wall_time_s: Longest time a clip may occupy a decoding process.
        memory_bytes: Most address space a decoding process may take beyond what it needs when idle.
    """

    max_duration_s: float = 600.0
    max_frame_pixels: int = 8192 * 4352
    max_decoded_pixels: int = 4_000_000_000
    max_streams: int = 32
    max_segments: int = 120
    wall_time_s: float = 20.0
    memory_bytes: int = 2 * 1024**3


@dataclass(frozen=True)
class Track:
    """Whether one side of a clip, picture or sound, was used.

    Attributes:
        used: True when the clip carries data of this track.
        reason: Stable code of why it was not used; None when it was.
        detail: The same for a reader, or what was used (codec and stream size).
    """

    used: bool
    reason: TrackReason | None = None
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a clip. Both tracks may be missing in it.

    Attributes:
        start_s: Where it starts, in seconds since the clip's start.
        end_s: Where it ends; the next one starts there.
        frames: uint8 [n_segment_frames, image_size_px, image_size_px, 3], RGB, in time order; None without
            picture in it.
        sound: First sample in `Clip.sound`, and one past the last; None without (audible) sound in it.
        visual: What happened to the picture.
        audio: What happened to the sound.
    """

    start_s: float
    end_s: float
    frames: npt.NDArray[np.uint8] | None
    sound: tuple[int, int] | None
    visual: Track
    audio: Track


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded clip. At least one of `frames` and `waveform` is there.

    Attributes:
        frames: uint8 [n_frames, image_size_px, image_size_px, 3], RGB, upright, in time order; None without
            picture.
        frame_times_s: float64 [n_frames], seconds since the first frame; empty without picture.
        waveform: float32 [n_samples], mono, -1..1, at the specification's rate; None without (audible) sound.
        duration_s: From the earlier start of the readable tracks to the later end, measured on the streams.
        visual: What happened to the picture.
        audio: What happened to the sound.
        warnings: Sentences for the user about anything that was left out or repaired.
        n_frames_decoded: Frames that the video decoder put out to get at the wanted ones.
        segments: The parts of the clip, in time order, when they were asked for.
        sound: float32 [n_samples], all the sound, for the segments; None without segments or sound.
    """

    frames: npt.NDArray[np.uint8] | None
    frame_times_s: npt.NDArray[np.float64]
    waveform: npt.NDArray[np.float32] | None
    duration_s: float
    visual: Track
    audio: Track
    warnings: tuple[str, ...] = ()
    n_frames_decoded: int = 0
    segments: tuple[Segment, ...] = ()
    sound: npt.NDArray[np.float32] | None = None
