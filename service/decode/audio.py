"""A sound stream to a mono waveform, window by window, never more of it than is wanted."""

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

from service.decode.source import UNREADABLE
from service.media import DecodeSpec

# Below -80 dB of full scale nothing is heard: lossy codecs and dither turn digital silence into such values.
_SILENT_PEAK = 1e-4


class Sound:
    """Decodes, downmixes and resamples one stream's packets as they come.

    Attributes:
        n_errors: Packets that the decoder refused.
        is_cut: True when sound was left out because there was more than wanted.
    """

    def __init__(self, stream: AudioStream, spec: DecodeSpec) -> None:
        self.n_errors = 0
        self.is_cut = False
        self._context = stream.codec_context
        self._context.thread_count = 1
        self._rate_hz = spec.sample_rate_hz
        self._n_wanted = round(spec.max_audio_s * spec.sample_rate_hz)
        self._n_samples = 0
        self._windows: list[npt.NDArray[np.float32]] = []
        self._resampler: AudioResampler | None = None
        self._layout: tuple[str, str, int] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more sound is wanted."""
        return self._n_samples >= self._n_wanted

    def add(self, packet: "Packet[AudioStream]") -> None:
        """Decode one packet."""
        if self.is_full:
            self.is_cut = True
            return
        try:
            for frame in self._context.decode(packet):
                self._resample(frame)
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

    def _resample(self, frame: AudioFrame) -> None:
        layout = (frame.format.name, frame.layout.name, frame.sample_rate)
        if layout != self._layout:  # the first frame, or a stream that changes under way
            self._flush()
            self._layout = layout
            self._resampler = AudioResampler(format="flt", layout="mono", rate=self._rate_hz)
        if self._resampler is not None:
            self._keep(self._resampler.resample(frame))

    def _drain(self) -> None:
        try:
            for frame in self._context.decode(None):
                self._resample(frame)
        except UNREADABLE:
            self.n_errors += 1
        self._flush()

    def _flush(self) -> None:
        if self._resampler is not None:
            self._keep(self._resampler.resample(None))
            self._resampler = None

    def _keep(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            window = np.asarray(frame.to_ndarray(), dtype=np.float32).reshape(-1)
            self._windows.append(window)
            self._n_samples += len(window)


def is_silent(waveform: npt.NDArray[np.float32]) -> bool:
    """Whether a waveform never rises above what counts as digital silence."""
    return len(waveform) == 0 or float(np.abs(waveform).max()) <= _SILENT_PEAK
