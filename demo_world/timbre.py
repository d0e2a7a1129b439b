"""Building blocks of synthesised sound: tones, noises, envelopes, strikes, a room, and a source's voice."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Wave = NDArray[np.float32]


def seconds(n_samples: int, rate_hz: int) -> Wave:
    """Return the time of each sample, float32 [n_samples]."""
    return (np.arange(n_samples) / rate_hz).astype(np.float32)


def glide(frequency_hz: Wave | float, n_samples: int, rate_hz: int) -> Wave:
    """Return the phase in radians of a tone whose frequency may change, [n_samples]."""
    curve = np.broadcast_to(np.asarray(frequency_hz, np.float64), n_samples)
    return np.asarray(2 * np.pi * np.cumsum(curve) / rate_hz, np.float32)


def harmonics(phase: Wave, amplitudes: Sequence[float]) -> Wave:
    """Sum harmonics 1, 2, ... of a phase with the given amplitudes."""
    parts = [amplitude * np.sin((k + 1) * phase) for k, amplitude in enumerate(amplitudes)]
    return np.asarray(np.sum(parts, axis=0), np.float32)


def coloured_noise(
    rng: Generator, n_samples: int, rate_hz: int, low_hz: float, high_hz: float, slope: float = 0.0
) -> Wave:
    """Noise of a band with unit power; `slope` is the exponent of frequency in its amplitude."""
    n_fft = _fast_length(n_samples)
    spectrum = np.fft.rfft(rng.standard_normal(n_fft, np.float32))
    f = np.fft.rfftfreq(n_fft, 1 / rate_hz)
    gain = 1 / (1 + (low_hz / np.maximum(f, 1)) ** 4) / (1 + (f / high_hz) ** 4) * np.maximum(f, 20) ** slope
    noise = np.fft.irfft(spectrum * gain, n_fft)[:n_samples]
    return np.asarray(noise / (np.sqrt(np.mean(noise**2)) + 1e-9), np.float32)


def wander(rng: Generator, n_samples: int, rate_hz: int, knots_hz: float) -> Wave:
    """A smooth random curve with values about -1..1."""
    n_knots = max(int(n_samples / rate_hz * knots_hz) + 3, 4)
    at = np.linspace(0, n_samples, n_knots)
    return np.interp(np.arange(n_samples), at, rng.uniform(-1, 1, n_knots)).astype(np.float32)


def beats(rng: Generator, duration_s: float, period_s: float, jitter: float) -> list[float]:
    """Times of a pulse in seconds, each shifted by up to `jitter` of the period."""
    start = rng.uniform(0, 0.9 * period_s)
    n_beats = max(int((duration_s - start) / period_s) + 1, 1)
    return [start + period_s * (k + jitter * rng.uniform(-0.5, 0.5)) for k in range(n_beats)]


def place(n_samples: int, rate_hz: int, events: Iterable[tuple[float, Wave]]) -> Wave:
    """Add each (start in seconds, waveform) into silence; what reaches beyond the end is cut."""
    track = np.zeros(n_samples, np.float32)
    for start_s, event in events:
        first = max(int(start_s * rate_hz), 0)
        part = event[: max(n_samples - first, 0)]
        track[first : first + len(part)] += part
    return track


def strike(
    partials: Iterable[tuple[float, float, float]], duration_s: float, rate_hz: int, attack_s: float = 0.002
) -> Wave:
    """Sum decaying tones, each (frequency in Hz, amplitude, decay time in seconds)."""
    t = seconds(int(duration_s * rate_hz), rate_hz)
    tones = [a * np.sin(2 * np.pi * f * t) * np.exp(-t / decay) for f, a, decay in partials]
    return np.asarray(np.sum(tones, axis=0) * np.minimum(t / attack_s, 1), np.float32)


def gate(n_samples: int, rate_hz: int, ramp_s: float) -> Wave:
    """An envelope of ones with a linear ramp at either end."""
    t = seconds(n_samples, rate_hz)
    return np.clip(np.minimum(t, t[::-1]) / ramp_s, 0, 1).astype(np.float32)


def room(rng: Generator, wave: Wave, rate_hz: int, decay_s: float, share: float) -> Wave:
    """Add reverberation: convolution with decaying noise."""
    t = seconds(int(3 * decay_s * rate_hz), rate_hz)
    tail = rng.standard_normal(len(t)) * np.exp(-t / decay_s)
    n = _fast_length(len(wave) + len(t))
    wet = np.fft.irfft(np.fft.rfft(wave, n) * np.fft.rfft(tail, n), n)[: len(wave)]
    wet *= np.sqrt(np.mean(wave**2) / (np.mean(wet**2) + 1e-12))
    return np.asarray((1 - share) * wave + share * wet, np.float32)


def _fast_length(n_samples: int) -> int:
    """The next length of the form 2^k or 3 * 2^k, of which a Fourier transform is fast."""
    power = 1 << (n_samples - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= n_samples else power


@dataclass(frozen=True)
class Voice:
    """How a source sounds in one clip.

    Attributes:
        rng: Source of the remaining choices.
        n_samples: Length of the waveform.
        rate_hz: Its sample rate.
        pitch: Factor on every frequency.
        tempo: Factor on every rate of events.
    """

    rng: Generator
    n_samples: int
    rate_hz: int
    pitch: float
    tempo: float

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.rate_hz

    def beats(self, period_s: float, jitter: float = 0.1) -> list[float]:
        """Times of events that come once a period, at this voice's tempo."""
        return beats(self.rng, self.duration_s, period_s / self.tempo, jitter)

    def place(self, times: list[float], event: Callable[[], Wave]) -> Wave:
        """Make one event for each time."""
        return place(self.n_samples, self.rate_hz, [(t, event()) for t in times])

    def noise(self, low_hz: float, high_hz: float, slope: float = 0.0) -> Wave:
        """Noise of the whole length, its band moved with the pitch."""
        band = (low_hz * self.pitch, high_hz * self.pitch)
        return coloured_noise(self.rng, self.n_samples, self.rate_hz, *band, slope)
