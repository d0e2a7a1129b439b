"""A sound stream to a mono waveform, window by window, never more of it than is wanted."""

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from service.decode.downmix import Downmix, forget_own_order, form_of
from service.decode.segments import Span
from service.decode.source import UNREADABLE
from service.media import DecodeLimits, DecodeSpec

# Below -80 dB of full scale nothing is heard: lossy codecs and dither turn digital silence into such values.
_SILENT_PEAK = 1e-4


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

    def add(self, packet: "Packet[AudioStream]") -> None:
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

    def _measure_rest(self, packet: "Packet[AudioStream]") -> None:
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


def is_silent(waveform: npt.NDArray[np.float32]) -> bool:
    """Whether a waveform never rises above what counts as digital silence."""
    return len(waveform) == 0 or float(np.abs(waveform).max()) <= _SILENT_PEAK
