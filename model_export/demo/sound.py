"""The soundtrack: one source in noise, perhaps in a room, perhaps with a faint intruder."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from model_export.demo.sources import SOURCES, Voice
from model_export.demo.timbre import Wave, coloured_noise, room
from model_export.demo.world import SoundClutter

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
    """Draws a soundscape with the given source; every other choice is a nuisance."""
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
    """Makes the soundtrack.

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
    """Scales to unit power."""
    return np.asarray(wave / (np.sqrt(np.mean(wave**2)) + 1e-9), np.float32)


def _gain(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))
