"""A sound stream to a mono waveform: decode, average the channels, resample; never more than is wanted."""

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

from service.decode.container import UNREADABLE
from service.decode.segments import Span
from service.media import DecodeLimits, DecodeSpec

Form = tuple[str, str, int]
"""Sample format, layout and rate of a frame."""


class Downmix:
    """Mixes and resamples the frames of one form: one sample format, one layout, one rate.

    The mean of all channels, whatever loudspeakers they are meant for, is what librosa takes, with which
    laion_clap reads files. FFmpeg's own mix is another: stereo becomes 0.707 (left + right), 41 % louder and
    clipped where both are loud; of 5.1 it leaves out the bass channel; and it fails where it does not know
    what the channels are. So the mix is a filter with weights of its own, in float, before the resampler.

    Args:
        first: Any frame of the form.
        rate_hz: Of the waveform.

    Raises:
        FFmpegError, ValueError: FFmpeg can't read such frames; more than 64 channels, for example.
    """

    def __init__(self, first: AudioFrame, rate_hz: int) -> None:
        self.form = form_of(first)
        self._graph = Graph()
        filters = [self._graph.add("abuffer", **_source(first))]
        if first.layout.nb_channels > 1:
            # Mixed in 16 bits, as they may be in the file, the mean would be rounded.
            filters.append(self._graph.add("aformat", sample_fmts="fltp"))
            filters.append(self._graph.add("pan", _mean(first.layout.nb_channels)))
        filters.append(self._graph.add("aformat", sample_fmts="flt", sample_rates=str(rate_hz)))
        filters.append(self._graph.add("abuffersink"))
        self._graph.link_nodes(*filters).configure()

    def add(self, frame: AudioFrame) -> list[npt.NDArray[np.float32]]:
        """What comes out for one more frame of the form: float32 [n_samples] each."""
        return self._push(frame)

    def rest(self) -> list[npt.NDArray[np.float32]]:
        """What the resampler still holds back. No frame may follow."""
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


def form_of(frame: AudioFrame) -> Form:
    """Sample format, layout and rate, which a stream may change under way."""
    return frame.format.name, frame.layout.name, frame.sample_rate


def forget_own_order(context: AudioCodecContext) -> None:
    """Take the names off channels that stand in an order of their own; their mean does not need them.

    FFmpeg keeps such an order in a list. PyAV 18 frees the list with the frame and again with the
    frame's layout, which ends the process. Call it before the first frame is decoded.
    """
    layout = context.layout  # read once, and replaced: it frees the list as well
    if " channels (" in layout.name:
        context.layout = f"{layout.nb_channels} channels"


def _source(frame: AudioFrame) -> dict[str, str]:
    sample_format, layout, rate_hz = form_of(frame)
    clock = {} if frame.time_base is None else {"time_base": str(frame.time_base)}
    return {"sample_fmt": sample_format, "channel_layout": layout, "sample_rate": str(rate_hz), **clock}


def _mean(n_channels: int) -> str:
    weights = "+".join(f"{1 / n_channels!r}*c{channel}" for channel in range(n_channels))
    return f"mono|c0={weights}"


class Sound:
    """Decodes, downmixes and resamples one stream's packets as they come.

    Args:
        stream: The stream, not decoded from before.
        spec: The rate, and how much is wanted; segments want all of it.
        limits: The longest clip: no more is decoded, whatever the timestamps say.

    Attributes:
        n_errors: Packets that the decoder refused.
        is_cut: True when there was more than `max_audio_s`.
    """

    def __init__(self, stream: AudioStream, spec: DecodeSpec, limits: DecodeLimits) -> None:
        self.n_errors = 0
        self.is_cut = False
        self._context = stream.codec_context
        self._context.thread_count = 1
        forget_own_order(self._context)
        self._rate_hz = spec.sample_rate_hz
        self._limit_s = limits.max_duration_s
        self._n_whole = round(spec.max_audio_s * spec.sample_rate_hz)
        self._n_wanted = self._n_whole
        if spec.segment_s is not None:
            self._n_wanted = max(self._n_whole, round(limits.max_duration_s * spec.sample_rate_hz))
        self._n_samples = 0
        self._start_s: float | None = None
        self._heard_s = 0.0
        self._windows: list[npt.NDArray[np.float32]] = []
        self._downmix: Downmix | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more sound is wanted."""
        return self._n_samples >= self._n_wanted

    def add(self, packet: Packet[AudioStream]) -> None:
        """Decode one packet."""
        if self._n_samples >= self._n_whole:
            self._measure_rest(packet)
        if self.is_full:
            return
        try:
            for frame in self._context.decode(packet):
                self._mix(frame)
        except UNREADABLE:
            self.n_errors += 1

    def waveform(self) -> npt.NDArray[np.float32]:
        """Everything so far: float32 [n_samples], -1..1. No packet may follow."""
        if not self.is_full:
            self._drain()
        if not self._windows:
            return np.empty(0, dtype=np.float32)
        waveform = np.nan_to_num(np.concatenate(self._windows)[: self._n_wanted], copy=False)
        return np.clip(waveform, -1.0, 1.0, out=waveform)

    def span(self, otherwise_s: float) -> Span:
        """When the sound starts and ends, on the clock of the file; call it after `waveform`.

        The same whether the sound after `max_audio_s` was decoded or only measured.

        Args:
            otherwise_s: Where it starts if the file does not say.
        """
        start_s = otherwise_s if self._start_s is None else self._start_s
        length_s = self._heard_s if self.is_cut else self._n_samples / self._rate_hz
        return Span(start_s, start_s + min(length_s, self._limit_s))

    def _measure_rest(self, packet: Packet[AudioStream]) -> None:
        if not self.is_cut:
            self.is_cut = True
            self._heard_s = self._n_samples / self._rate_hz
        self._heard_s += float((packet.duration or 0) * (packet.time_base or 0))

    def _mix(self, frame: AudioFrame) -> None:
        if self._start_s is None:
            self._start_s = frame.time
        if self._downmix is None or self._downmix.form != form_of(frame):  # a stream may change under way
            self._flush()
            self._downmix = Downmix(frame, self._rate_hz)
        self._keep(self._downmix.add(frame))

    def _drain(self) -> None:
        try:
            for frame in self._context.decode(None):
                self._mix(frame)
            self._flush()
        except UNREADABLE:
            self.n_errors += 1

    def _flush(self) -> None:
        ended, self._downmix = self._downmix, None  # first: one that fails must not be asked again
        if ended is not None:
            self._keep(ended.rest())

    def _keep(self, windows: list[npt.NDArray[np.float32]]) -> None:
        self._windows.extend(windows)
        self._n_samples += sum(map(len, windows))
