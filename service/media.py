"""Values of the decode step: its specification, its limits, and the decoded clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Tracks = Literal["both", "visual", "audio"]
"""What a clip has that can be used, or what of it is used."""
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
    """How a frame is turned into a square picture.

    Attributes:
        shape: `shorter_side`: the shorter side is scaled to that of the square, then the centre is cropped;
            `squash`: both sides are scaled, which changes the aspect ratio.
        filter: Resampling filter. Its support grows with the scale when the frame shrinks (antialiasing).
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
"""Meaning of each value of `resize` in a manifest."""

EDGE_TOLERANCE_S: Final = 0.1
"""Codecs pad and smear sound, and frames have a duration: tracks meant to end together differ by less."""

# A segment shows less than a whole clip, and a clip has many segments, so each gets few frames.
_MAX_SEGMENT_FRAMES = 4


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise ValueError(text)


@dataclass(frozen=True)
class DecodeSpec:
    """What a model needs from a clip. These are facts of the model, read from its bundle.

    Attributes:
        n_frames: Number of frames; a clip that has fewer repeats some.
        image_size_px: Side length of the square pictures.
        sample_rate_hz: Sample rate of the mono waveform.
        max_audio_s: Sound up to this long is used whole for the clip as a whole. Of longer sound only windows
            are used.
        n_windows: Number of these windows; their middles are the midpoints of so many equal intervals.
        window_s: Length of each; None: `max_audio_s`.
        sampling: `uniform`: the midpoints of `n_frames` equal intervals of the clip; `middle`: the midpoint.
        resize: How a frame is turned into a square picture: a key of RESIZE_RULES.
        frames: `exact`: the frames on screen at the sampled times; `key`: the key frames nearest to them,
            which can be decoded without any other frame.
        segment_s: Length of the segments that the clip is also cut into; None for no segments. Segments use
            all the sound.
    """

    n_frames: int
    image_size_px: int
    sample_rate_hz: int
    max_audio_s: float
    n_windows: int = 1
    window_s: float | None = None
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
        _require(self.n_windows >= 1, "n_windows must be at least 1")
        _require(self.window_s is None or self.window_s > 0, "window_s must be positive")
        _require(self.sampling in get_args(Sampling), f"sampling must be one of {get_args(Sampling)}")
        _require(self.resize in get_args(Resize), f"resize must be one of {get_args(Resize)}")
        _require(self.frames in get_args(FrameChoice), f"frames must be one of {get_args(FrameChoice)}")
        _require(self.segment_s is None or self.segment_s > 0, "segment_s must be positive")
        _require(self.sampling != "middle" or self.n_frames == 1, "sampling 'middle' picks exactly 1 frame")

    @property
    def window_samples(self) -> int:
        """Samples of each window of longer sound."""
        return max(1, round((self.window_s or self.max_audio_s) * self.sample_rate_hz))

    @property
    def longest_whole_s(self) -> float:
        """Longest sound that is used whole: a little more than `max_audio_s`, since codecs pad it."""
        return self.max_audio_s + EDGE_TOLERANCE_S

    @property
    def whole_samples(self) -> int:
        """Samples of the longest sound that is used whole."""
        return round(self.longest_whole_s * self.sample_rate_hz)

    def full_samples(self, limits: DecodeLimits) -> int:
        """Most samples of all the sound, which segments are ranges of; 0 without segments."""
        return 0 if self.segment_s is None else round(limits.max_duration_s * self.sample_rate_hz)

    @property
    def n_segment_frames(self) -> int:
        """Number of frames of each segment, at most that of the whole clip."""
        return min(self.n_frames, _MAX_SEGMENT_FRAMES)


@dataclass(frozen=True)
class DecodeLimits:
    """Limits on the cost of one clip. These are settings of the deployment.

    Attributes:
        max_duration_s: Maximum length, measured on the timestamps; the duration in the header is not trusted.
        max_frame_pixels: Maximum size of one frame, width x height.
        max_decoded_pixels: Maximum number of pixels decoded for one clip, frames x width x height.
        max_streams: Maximum number of streams in one file.
        max_segments: Maximum number of segments of one clip.
        processor_time_s: Maximum processor time of a decoding process for a clip.
        memory_bytes: Maximum address space of a decoding process beyond what it uses when idle.
    """

    max_duration_s: float = 600.0
    max_frame_pixels: int = 8192 * 4352
    max_decoded_pixels: int = 4_000_000_000
    max_streams: int = 32
    max_segments: int = 120
    processor_time_s: float = 20.0
    memory_bytes: int = 2 * 1024**3


@dataclass(frozen=True)
class Track:
    """Report on one track of a clip, visual or audio: whether it was used.

    Attributes:
        used: Whether the clip has usable data in this track.
        reason: Stable code that says why the track was not used; None when it was.
        detail: The reason in words; for a used track its codec and its size or sample rate.
    """

    used: bool
    reason: TrackReason | None = None
    detail: str = ""


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a clip. Either track, or both, may be missing from it.

    Attributes:
        start_s: Start, in seconds since the start of the clip.
        end_s: End, where the next segment starts.
        frames: uint8 [n_segment_frames, image_size_px, image_size_px, 3], RGB, in time order; None when the
            segment has no visual data.
        frame_times_s: float64 [n_segment_frames], seconds since the first frame of the clip; empty without
            frames.
        audio_samples: Half-open range [first, stop) of samples of `Clip.full_waveform`; None when the segment
            has no audible audio.
        visual: Report on the visual track.
        audio: Report on the audio track.
    """

    start_s: float
    end_s: float
    frames: npt.NDArray[np.uint8] | None
    frame_times_s: npt.NDArray[np.float64]
    audio_samples: tuple[int, int] | None
    visual: Track
    audio: Track


@dataclass(frozen=True, eq=False)
class ClipSound:
    """What is used of the sound of a clip, which is known before its frames are; attributes as in `Clip`."""

    waveform: npt.NDArray[np.float32] | None
    full_waveform: npt.NDArray[np.float32] | None = None
    window_starts_s: tuple[float, ...] = ()


OnSound: TypeAlias = Callable[[ClipSound], object]
"""Called with the sound of a clip, if it has any, while frames are still to be decoded; must return soon."""


def ignore_sound(_: ClipSound) -> None:
    """For those who wait for the whole clip."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded clip. At least one of `frames` and `waveform` is not None.

    Attributes:
        frames: uint8 [n_frames, image_size_px, image_size_px, 3], RGB, upright, in time order; None without a
            usable visual track.
        frame_times_s: float64 [n_frames], seconds since the first frame; empty without frames.
        waveform: float32 [n_samples], mono, -1..1, at the sample rate of the specification: the sound, or
            where it is longer than `max_audio_s` its windows, one after the other; None without any that can
            be used.
        duration_s: Time from the first start to the last end of the readable tracks, measured on the streams.
        visual: Report on the visual track.
        audio: Report on the audio track.
        warnings: Sentences for the user about everything that was left out or repaired.
        n_frames_decoded: Frames that the video decoder returned to produce the wanted ones.
        segments: The segments in time order; empty when none were requested.
        full_waveform: float32 [n_samples], the audio of the whole clip, of which segments are ranges; None
            without segments or audio.
        window_starts_s: Where each window of longer sound starts, in seconds since the first sample; empty
            where `waveform` is the whole sound.
        at_key_frames: Whether `frames` are key frames: because they were asked for, or the clip is large.
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
    full_waveform: npt.NDArray[np.float32] | None = None
    window_starts_s: tuple[float, ...] = ()
    at_key_frames: bool = False
