"""Sound frames of any sample format, layout and rate to a mono waveform: the plain mean of the channels."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as AtEnd
from av.filter import Graph

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
