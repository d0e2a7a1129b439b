"""The soundtrack: one of 16 sources in noise, perhaps in a room, perhaps with a faint intruder."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from demo_world.timbre import (
    Voice,
    Wave,
    coloured_noise,
    gate,
    glide,
    harmonics,
    place,
    room,
    seconds,
    strike,
    wander,
)
from demo_world.world import SoundClutter

PEAK = 0.97


@dataclass(frozen=True)
class Soundscape:
    """Everything that is heard in one clip.

    Attributes:
        sound: Index of the source.
        pitch: Factor on the source's frequencies.
        tempo: Factor on its rates.
        snr_db: Power of source to background noise.
        level_db: Root mean square of the mix, relative to full scale.
        noise_slope: Colour of the noise: 0 white, -0.5 pink, -1 brown (exponent of the amplitude).
        echo: Share of reverberation, 0..1.
        intruder: Index and level in dB of a second source; None without one.
    """

    sound: int
    pitch: float
    tempo: float
    snr_db: float
    level_db: float
    noise_slope: float
    echo: float
    intruder: tuple[int, float] | None


def draw_soundscape(rng: Generator, sound: int, n_sounds: int, clutter: SoundClutter) -> Soundscape:
    """Draw a soundscape with the given source; every other choice is a nuisance."""
    intruder = None
    if rng.random() < clutter.intruder_probability:
        intruder = (int(rng.integers(n_sounds)), float(rng.uniform(*clutter.intruder_db)))
    echoes = rng.random() < clutter.reverb_probability
    return Soundscape(
        sound=sound,
        pitch=float(2 ** (rng.uniform(-1, 1) * clutter.pitch_semitones / 12)),
        tempo=float(2 ** (rng.uniform(-1, 1) * clutter.tempo_octaves)),
        snr_db=float(rng.uniform(*clutter.snr_db)),
        level_db=float(rng.uniform(*clutter.level_db)),
        noise_slope=float(rng.choice((0.0, -0.5, -1.0))),
        echo=float(rng.uniform(0.1, 0.5)) if echoes else 0.0,
        intruder=intruder,
    )


def synthesise(
    scape: Soundscape, keys: tuple[str, ...], duration_s: float, rate_hz: int, rng: Generator
) -> Wave:
    """Make the soundtrack.

    Args:
        scape: What is heard.
        keys: Names of the sources, by index.
        duration_s: Length.
        rate_hz: Sample rate.
        rng: Source of the remaining randomness.

    Returns:
        float32 [duration_s * rate_hz], mono, -1..1.
    """
    n = round(duration_s * rate_hz)
    wave = _unit(SOURCES[keys[scape.sound]](Voice(rng, n, rate_hz, scape.pitch, scape.tempo)))
    if scape.intruder is not None:
        index, level_db = scape.intruder
        wave = wave + _unit(SOURCES[keys[index]](Voice(rng, n, rate_hz, 1.0, 1.0))) * _gain(level_db)
    if scape.echo > 0:
        wave = room(rng, wave, rate_hz, 0.12, scape.echo)
    noise = coloured_noise(rng, n, rate_hz, 30, 7000, scape.noise_slope)
    mix = _unit(wave + noise * _gain(-scape.snr_db)) * _gain(scape.level_db)
    return np.asarray(PEAK * np.tanh(mix / PEAK), np.float32)


def _unit(wave: Wave) -> Wave:
    """Scale to unit power."""
    return np.asarray(wave / (np.sqrt(np.mean(wave**2)) + 1e-9), np.float32)


def _gain(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))


def bell(v: Voice) -> Wave:
    """Slow strikes of long, inharmonic partials."""
    f = v.rng.uniform(420, 700) * v.pitch
    ratios = (0.5, 1.0, 1.19, 1.5, 2.0, 2.74, 3.76)
    amplitudes = (0.3, 1.0, 0.6, 0.4, 0.7, 0.4, 0.25)
    partials = [(f * r, a, 1.1 / r**0.6) for r, a in zip(ratios, amplitudes, strict=True)]
    return v.place(v.beats(1.0), lambda: strike(partials, 2.0, v.rate_hz))


def siren(v: Voice) -> Wave:
    """A tone that rises and falls without a break."""
    t = seconds(v.n_samples, v.rate_hz)
    swing = np.sin(2 * np.pi * (v.rng.uniform(0.5, 1.1) * v.tempo * t + v.rng.uniform()))
    phase = glide((820 * v.pitch * 2 ** (0.55 * swing)).astype(np.float32), v.n_samples, v.rate_hz)
    return harmonics(phase, (1.0, 0.4, 0.3, 0.15, 0.1))


def drum(v: Voice) -> Wave:
    """Low thuds whose pitch falls, in a rhythm."""
    f = v.rng.uniform(85, 140) * v.pitch

    def thud() -> Wave:
        t = seconds(int(0.35 * v.rate_hz), v.rate_hz)
        phase = glide((f * (1 + 1.2 * np.exp(-t / 0.03))).astype(np.float32), len(t), v.rate_hz)
        skin = v.rng.standard_normal(len(t)) * np.exp(-t / 0.012) * 0.25
        return np.asarray((np.sin(phase) * np.exp(-t / 0.11) + skin) * v.rng.uniform(0.6, 1), np.float32)

    return v.place(v.beats(0.36, 0.3), thud)


def string(v: Voice) -> Wave:
    """Plucked notes of a scale: harmonics, the higher the shorter."""
    f = v.rng.uniform(190, 300) * v.pitch

    def pluck() -> Wave:
        note = f * 2 ** (int(v.rng.choice((0, 2, 4, 7, 9, 12))) / 12)
        return strike([(note * k, 1 / k, 0.5 / k**0.8) for k in range(1, 11)], 0.9, v.rate_hz, 0.001)

    return v.place(v.beats(0.3), pluck)


def bird(v: Voice) -> Wave:
    """Groups of short sweeps between 2 and 5 kHz."""
    f = v.rng.uniform(2300, 3300) * v.pitch

    def chirp() -> Wave:
        n = int(v.rng.uniform(0.05, 0.11) * v.rate_hz)
        sweep = np.linspace(v.rng.uniform(0.8, 1.1), v.rng.uniform(1.2, 1.7), n)[:: v.rng.choice((-1, 1))]
        return np.sin(glide((f * sweep).astype(np.float32), n, v.rate_hz)) * gate(n, v.rate_hz, 0.015)

    times = [t + 0.13 * k for t in v.beats(0.75, 0.4) for k in range(int(v.rng.integers(2, 5)))]
    return v.place(times, chirp)


def engine(v: Voice) -> Wave:
    """A low, rough, steady hum with many harmonics."""
    wobble = 1 + 0.06 * wander(v.rng, v.n_samples, v.rate_hz, 2)
    phase = glide((v.rng.uniform(55, 95) * v.pitch * wobble).astype(np.float32), v.n_samples, v.rate_hz)
    hum = harmonics(phase, [1 / k**0.7 for k in range(1, 16)])
    return np.asarray(hum * (1 + 0.5 * np.sin(phase / 2)) + 0.4 * v.noise(80, 900), np.float32)


def rain(v: Voice) -> Wave:
    """A bright hiss with countless drops."""
    n_drops = int(60 * v.duration_s * v.tempo)
    times = list(v.rng.uniform(0, v.duration_s, n_drops))

    def splash() -> Wave:
        f = v.rng.uniform(2000, 5500) * v.pitch
        return strike([(f, v.rng.uniform(0.4, 2.5), 0.004)], 0.03, v.rate_hz, 0.0005)

    return v.noise(1800, 7000, 0.3) + v.place(times, splash)


def whistle(v: Voice) -> Wave:
    """Long pure notes with vibrato and breath."""
    f = v.rng.uniform(1000, 1600) * v.pitch
    breath = v.noise(1500, 5000) * 0.05

    def note() -> Wave:
        n = int(v.rng.uniform(0.3, 0.5) / v.tempo * v.rate_hz)
        t = seconds(n, v.rate_hz)
        step = 2 ** (v.rng.integers(-4, 5) / 12) * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * t))
        phase = glide((f * step).astype(np.float32), n, v.rate_hz)
        return harmonics(phase, (1, 0.08)) * gate(n, v.rate_hz, 0.05)

    return v.place(v.beats(0.5), note) + breath


def clock(v: Voice) -> Wave:
    """Tick, tock: dry clicks, two alternating resonances."""
    f = v.rng.uniform(1500, 2300) * v.pitch
    ticks = [
        (t, strike([(f * (1, 0.74)[k % 2], 1, 0.008), (2.3 * f, 0.4, 0.004)], 0.06, v.rate_hz, 0.0004))
        for k, t in enumerate(v.beats(0.33, 0.0))
    ]
    return place(v.n_samples, v.rate_hz, ticks)


def alarm(v: Voice) -> Wave:
    """Even electronic beeps."""
    f = v.rng.uniform(850, 1300) * v.pitch
    n = int(0.11 / v.tempo * v.rate_hz)
    phase = glide(f, n, v.rate_hz)
    beep = harmonics(phase, (1, 0, 0.33, 0, 0.2)) * gate(n, v.rate_hz, 0.004)
    return v.place(v.beats(0.22, 0.0), lambda: beep)


def horn(v: Voice) -> Wave:
    """Long brassy blasts of two notes at once."""
    f = v.rng.uniform(220, 330) * v.pitch

    def blast() -> Wave:
        n = int(v.rng.uniform(0.4, 0.8) / v.tempo * v.rate_hz)
        brass = [1, 0.9, 0.8, 0.6, 0.5, 0.35, 0.25, 0.15]
        chord = harmonics(glide(f, n, v.rate_hz), brass) + harmonics(glide(1.26 * f, n, v.rate_hz), brass)
        return chord * gate(n, v.rate_hz, 0.04)

    return v.place(v.beats(0.95, 0.2), blast)


def wind(v: Voice) -> Wave:
    """Howling noise whose band drifts up and down."""
    drift = wander(v.rng, v.n_samples, v.rate_hz, 1.2 * v.tempo)
    low, high = v.noise(180, 420), v.noise(480, 1100)
    return np.asarray((0.6 - 0.5 * drift) * low + (0.35 + 0.35 * drift) * high, np.float32)


def surf(v: Voice) -> Wave:
    """Broad noise that swells and breaks away."""
    t = seconds(v.n_samples, v.rate_hz)
    swell = (t * v.tempo / v.rng.uniform(1.2, 1.8) + v.rng.uniform()) % 1
    rise = np.where(swell < 0.6, (swell / 0.6) ** 2, ((1 - swell) / 0.4) ** 1.5).astype(np.float32)
    return (0.1 + rise) * v.noise(150, 3500, -0.4)


def cricket(v: Voice) -> Wave:
    """A fast pulsed trill of one high tone, in groups."""
    f = v.rng.uniform(3800, 4800) * v.pitch
    t = seconds(v.n_samples, v.rate_hz)
    pulses = np.clip(np.sin(2 * np.pi * v.rng.uniform(26, 38) * v.tempo * t), 0, 1)
    groups = np.clip(4 * np.sin(2 * np.pi * (1.7 * v.tempo * t + v.rng.uniform())) + 2.5, 0, 1)
    return np.asarray(np.sin(glide(f, v.n_samples, v.rate_hz)) * pulses * groups, np.float32)


def fire(v: Voice) -> Wave:
    """Sparse crackles of every size over a low roar."""
    n_crackles = int(14 * v.duration_s * v.tempo)

    def crackle() -> Wave:
        n = int(v.rng.uniform(0.004, 0.02) * v.rate_hz)
        burst = v.rng.standard_normal(n) * np.exp(-np.arange(n) / (n / 4)) * v.rng.pareto(2.5)
        return np.clip(burst, -6, 6).astype(np.float32)

    times = list(v.rng.uniform(0, v.duration_s, n_crackles))
    return 3 * v.place(times, crackle) + 0.5 * v.noise(60, 300)


def hammer(v: Voice) -> Wave:
    """Metal blows: a click and short inharmonic ringing."""
    f = v.rng.uniform(900, 1400) * v.pitch
    ratios = ((1, 1), (1.58, 0.8), (2.24, 0.7), (2.92, 0.5), (4.1, 0.4))
    partials = [(f * ratio, amplitude, 0.12 / ratio**0.5) for ratio, amplitude in ratios]

    def blow() -> Wave:
        ringing = strike(partials, 0.5, v.rate_hz, 0.0004)
        click = v.rng.standard_normal(len(ringing)) * np.exp(-np.arange(len(ringing)) / (0.003 * v.rate_hz))
        return np.asarray((ringing + 1.2 * click) * v.rng.uniform(0.7, 1), np.float32)

    return v.place(v.beats(0.55, 0.15), blow)


SOURCES: dict[str, Callable[[Voice], Wave]] = {
    source.__name__: source
    for source in (
        bell, siren, drum, string, bird, engine, rain, whistle,
        clock, alarm, horn, wind, surf, cricket, fire, hammer,
    )
}  # fmt: skip
