"""An audio stream to a mono waveform: decode, average the channels, resample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as AtEnd
from av.filter import Graph
from av.packet import Packet

from service.decode.container import Damage
from service.decode.segments import Span
from service.media import DecodeLimits, DecodeSpec

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
        filters.append(self._graph.add("abuffersink"))
        self._graph.link_nodes(*filters).configure()

    def add(self, frame: AudioFrame) -> list[npt.NDArray[np.float32]]:
        """Samples that are ready after one more frame: arrays float32 [n_samples]."""
        return self._push(frame)

    def flush(self) -> list[npt.NDArray[np.float32]]:
        """Samples that the resampler still buffers. No frame may follow."""
        return self._push(None)

    def _push(self, frame: AudioFrame | None) -> list[npt.NDArray[np.float32]]:
        self._graph.push(frame)
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


def drop_custom_channel_order(context: AudioCodecContext) -> None:
    """Replace a custom channel order by unnamed channels; their mean does not depend on names.

    FFmpeg keeps a custom order in a list. PyAV 18 frees that list with the frame and again with the layout of
    the frame, which crashes the process. Call this before the first frame is decoded.
    """
    layout = context.layout  # read once only: each such object frees the list when it is deleted
    if " channels (" in layout.name:
        context.layout = f"{layout.nb_channels} channels"


def _source(frame: AudioFrame) -> dict[str, str]:
    sample_format, layout, rate_hz = format_of(frame)
    clock = {} if frame.time_base is None else {"time_base": str(frame.time_base)}
    return {"sample_fmt": sample_format, "channel_layout": layout, "sample_rate": str(rate_hz), **clock}


def _mean(n_channels: int) -> str:
    weights = "+".join(f"{1 / n_channels!r}*c{channel}" for channel in range(n_channels))
    return f"mono|c0={weights}"


class AudioDecoder:
    """Decodes, downmixes and resamples the packets of one stream, one at a time.

    Args:
        stream: The stream; nothing of it may have been decoded.
        spec: The sample rate, and how much to decode: up to `max_audio_s`, or everything for segments.
        limits: Limits; no more than the maximum duration is decoded, whatever the timestamps say.
        damage: Counts packets that the decoder rejects and frames that can't be mixed or resampled.

    Attributes:
        is_cut: Whether the stream is longer than `max_audio_s`.
    """

    def __init__(self, stream: AudioStream, spec: DecodeSpec, limits: DecodeLimits, damage: Damage) -> None:
        self.is_cut = False
        self._damage = damage
        self._context = stream.codec_context
        self._context.thread_count = 1
        drop_custom_channel_order(self._context)
        self._rate_hz = spec.sample_rate_hz
        self._limit_s = limits.max_duration_s
        self._n_whole = round(spec.max_audio_s * spec.sample_rate_hz)
        self._n_wanted = self._n_whole
        if spec.segment_s is not None:
            self._n_wanted = max(self._n_whole, round(limits.max_duration_s * spec.sample_rate_hz))
        self._n_samples = 0
        self._start_s: float | None = None
        self._measured_s = 0.0
        self._chunks: list[npt.NDArray[np.float32]] = []
        self._downmix: Downmix | None = None

    @property
    def is_full(self) -> bool:
        """Whether everything that is wanted has been decoded."""
        return self._n_samples >= self._n_wanted

    def add(self, packet: Packet[AudioStream]) -> None:
        """Decode one packet."""
        # Past `max_audio_s` the duration is measured on packets, with or without segments, so that a clip has
        # the same duration either way.
        if self._n_samples >= self._n_whole:
            self._measure_rest(packet)
        if self.is_full:
            return
        self._decode(packet)

    def waveform(self) -> npt.NDArray[np.float32]:
        """All decoded audio, float32 [n_samples], -1..1. No packet may follow."""
        if not self.is_full:
            self._decode(None)
            with self._damage.kept_to("sound"):
                self._flush()
        if not self._chunks:
            return np.empty(0, dtype=np.float32)
        waveform = np.nan_to_num(np.concatenate(self._chunks)[: self._n_wanted], copy=False)
        return np.clip(waveform, -1.0, 1.0, out=waveform)

    def span(self, default_start_s: float) -> Span:
        """Start and end of the audio on the clock of the file; call this after `waveform`.

        The result is the same whether audio after `max_audio_s` was decoded or only measured.

        Args:
            default_start_s: Start to assume if the frames have no timestamps.
        """
        start_s = default_start_s if self._start_s is None else self._start_s
        length_s = self._measured_s if self.is_cut else self._n_samples / self._rate_hz
        return Span(start_s, start_s + min(length_s, self._limit_s))

    def _measure_rest(self, packet: Packet[AudioStream]) -> None:
        if not self.is_cut:
            self.is_cut = True
            self._measured_s = self._n_samples / self._rate_hz
        self._measured_s += float((packet.duration or 0) * (packet.time_base or 0))

    def _decode(self, packet: Packet[AudioStream] | None) -> None:
        """Decode one packet, or what the decoder still buffers."""
        with self._damage.kept_to("sound"):
            for frame in self._context.decode(packet):
                with self._damage.kept_to("sound"):
                    self._mix(frame)

    def _mix(self, frame: AudioFrame) -> None:
        if self._start_s is None:
            self._start_s = frame.time
        if self._downmix is not None and self._downmix.format != format_of(frame):
            with self._damage.kept_to("sound"):
                self._flush()
        # Held back until it has taken the frame: a filter graph that failed must not be used again.
        downmix, self._downmix = self._downmix or Downmix(frame, self._rate_hz), None
        self._keep(downmix.add(frame))
        self._downmix = downmix

    def _flush(self) -> None:
        ended, self._downmix = self._downmix, None
        if ended is not None:
            self._keep(ended.flush())

    def _keep(self, chunks: list[npt.NDArray[np.float32]]) -> None:
        self._chunks.extend(chunks)
        self._n_samples += sum(map(len, chunks))
