"""Frames of sound to mono samples: average the channels, resample, and keep a stretch of the stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as AtEnd
from av.filter import Graph

from service.decode.container import Damage

# A resampler has taken this much before a stretch begins: its filter is a millisecond long.
_LEAD_S = 0.02
# Samples are taken from the filters after so much went in, in pieces of so many: a frame has about a
# thousand, and to take each one's costs more than to mix and resample it.
_IN_S, _OUT_SAMPLES = 0.3, 4_096

FrameFormat = tuple[str, str, int]
"""Sample format, channel layout and sample rate of a frame."""


class Downmix:
    """Mixes and resamples frames of one format: one sample format, one layout, one rate.

    The result is the plain mean of all channels, as in librosa, which laion_clap reads files with. The
    default mix of FFmpeg differs: stereo becomes 0.707 (left + right), which is 41 % louder and clips; the
    bass channel of 5.1 is dropped; and unknown layouts fail. So a filter with explicit weights mixes in float
    before the resampler.

    Args:
        first: Any frame of the format.
        rate_hz: Sample rate of the result.

    Raises:
        FFmpegError, ValueError: FFmpeg can't filter such frames, for example with more than 64 channels.
    """

    def __init__(self, first: AudioFrame, rate_hz: int) -> None:
        self.format = format_of(first)
        self._graph = Graph()
        filters = [self._graph.add("abuffer", **_source(first))]
        if first.layout.nb_channels > 1:
            # Converted to float first: a mean of 16-bit samples would be rounded to 16 bits.
            filters.append(self._graph.add("aformat", sample_fmts="fltp"))
            filters.append(self._graph.add("pan", _mean(first.layout.nb_channels)))
        filters.append(self._graph.add("aformat", sample_fmts="flt", sample_rates=str(rate_hz)))
        filters.append(self._graph.add("asetnsamples", n=str(_OUT_SAMPLES), p="0"))
        filters.append(self._graph.add("abuffersink"))
        self._graph.link_nodes(*filters).configure()
        self._waiting_s = 0.0

    def add(self, frame: AudioFrame) -> list[npt.NDArray[np.float32]]:
        """Samples that are ready after one more frame: arrays float32 [n_samples]."""
        self._graph.push(frame)
        self._waiting_s += frame.samples / frame.sample_rate
        if self._waiting_s < _IN_S:
            return []
        self._waiting_s = 0.0
        return list(self._pull())

    def flush(self) -> list[npt.NDArray[np.float32]]:
        """All samples that are left. No frame may follow."""
        self._graph.push(None)
        return list(self._pull())

    def _pull(self) -> Iterator[npt.NDArray[np.float32]]:
        while True:
            try:
                yield np.asarray(self._graph.pull().to_ndarray(), dtype=np.float32).reshape(-1)
            except (NothingYet, AtEnd):
                return


def format_of(frame: AudioFrame) -> FrameFormat:
    """The format of a frame. It may change within a stream."""
    return frame.format.name, frame.layout.name, frame.sample_rate


def _source(frame: AudioFrame) -> dict[str, str]:
    sample_format, layout, rate_hz = format_of(frame)
    clock = {} if frame.time_base is None else {"time_base": str(frame.time_base)}
    return {"sample_fmt": sample_format, "channel_layout": layout, "sample_rate": str(rate_hz), **clock}


def _mean(n_channels: int) -> str:
    weights = "+".join(f"{1 / n_channels!r}*c{channel}" for channel in range(n_channels))
    return f"mono|c0={weights}"


class Excerpt:
    """Collects the samples of one stretch of a stream, from its frames in their order.

    Args:
        start_s: Where it starts, in seconds since the first sample of the stream.
        n_samples: Its length; it is shorter where the stream ends before.
        rate_hz: Sample rate of the result.
        damage: Counts frames that can't be mixed or resampled.
    """

    def __init__(self, start_s: float, n_samples: int, rate_hz: int, damage: Damage) -> None:
        self._start_s, self._rate_hz = start_s, rate_hz
        self._n_wanted = n_samples
        self._damage = damage
        self._n_before: int | None = None
        self._n_samples = 0
        self._chunks: list[npt.NDArray[np.float32]] = []
        self._downmix: Downmix | None = None

    @property
    def start_s(self) -> float:
        """Where it starts, in seconds since the first sample of the stream."""
        return self._start_s

    @property
    def opens_s(self) -> float:
        """It needs frames from the one on that is heard at this time; a resampler takes some before."""
        return max(0.0, self._start_s - _LEAD_S)

    def add(self, frame: AudioFrame, at_s: float) -> None:
        """Take the next frame, which begins at a time since the first sample of the stream."""
        if self._n_before is None:
            self._n_before = max(0, round((self._start_s - at_s) * self._rate_hz))
        self._mix(frame)

    def add_silence(self, at_s: float, length_s: float) -> None:
        """Take silence, which begins at a time since the first sample of the stream, in place of frames."""
        self._flush()
        if self._n_before is None:
            # What is before the stretch is left out, since a pause may be long.
            begins_s = min(max(at_s, self._start_s), at_s + length_s)
            self._n_before = max(0, round((self._start_s - begins_s) * self._rate_hz))
            length_s -= begins_s - at_s
        n_wanted = max(0, self._n_before + self._n_wanted - self._n_samples)
        self._keep([np.zeros(min(round(length_s * self._rate_hz), n_wanted), np.float32)])

    @property
    def is_full(self) -> bool:
        """Whether it needs no more frames."""
        return self._n_before is not None and self._n_samples >= self._n_before + self._n_wanted

    def samples(self) -> npt.NDArray[np.float32]:
        """The samples, float32 [at most n_samples], -1..1. No frame may follow."""
        if not self.is_full:
            with self._damage.kept_to("sound"):
                self._flush()
        if self._n_before is None or not self._chunks:
            return np.empty(0, dtype=np.float32)
        joined = np.concatenate(self._chunks)
        self._chunks.clear()  # of a long clip they are large
        waveform = joined[self._n_before :][: self._n_wanted]
        return np.clip(waveform, -1.0, 1.0, out=waveform)

    def _mix(self, frame: AudioFrame) -> None:
        if self._downmix is not None and self._downmix.format != format_of(frame):
            with self._damage.kept_to("sound"):
                self._flush()
        # Held back until it has taken the frame: a filter graph that failed must not be used again.
        downmix, self._downmix = self._downmix or Downmix(frame, self._rate_hz), None
        self._keep(downmix.add(frame))
        if not self.is_full:  # those of hundreds of stretches would take gigabytes
            self._downmix = downmix

    def _flush(self) -> None:
        ended, self._downmix = self._downmix, None
        if ended is not None:
            self._keep(ended.flush())

    def _keep(self, chunks: list[npt.NDArray[np.float32]]) -> None:
        # Each by itself: of an hour of sound this would take half of its memory again.
        self._chunks.extend(np.nan_to_num(chunk, copy=False) for chunk in chunks)
        self._n_samples += sum(map(len, chunks))
