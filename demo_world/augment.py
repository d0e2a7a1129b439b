"""Batches of augmented clips to train on: what must not change a feature is varied at random."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from demo_world.corpus import EncoderCorpus
from demo_world.encoders import AudioTower, EncoderSizes, image_tower

Rows = NDArray[np.int64]
"""Indices of clips."""


class Pictures:
    """Frames of the corpus: warped, recoloured and partly covered.

    Attributes:
        tower: From frames to features of unit length.
        body: The part of it that learns: from what `draw` gives to features of any length.
        labels: int64 [n_clips], the shape of each clip.
    """

    def __init__(self, corpus: EncoderCorpus, sizes: EncoderSizes) -> None:
        self._frames = corpus.frames
        self.tower = image_tower(sizes)
        self.body = self.tower.visual
        self.labels = torch.from_numpy(corpus.shapes)

    def draw(self, rng: Generator, rows: Rows) -> Tensor:
        """One frame of each clip: float32 [len(rows), 3, size, size]."""
        which = rng.integers(self._frames.shape[1], size=len(rows))
        pixels = self.tower.pixels(torch.from_numpy(self._frames[rows, which]))
        return _cover(rng, _recolour(rng, _warp(rng, pixels)))

    def plain(self, rows: slice) -> Tensor:
        """Mean feature of the frames of each clip: float32 [n, dim], unit length."""
        frames = torch.from_numpy(np.array(self._frames[rows]))  # a copy: the corpus is mapped, read-only
        features = self.tower(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return F.normalize(features.mean(dim=1), dim=1)


class Sounds:
    """Windows of the corpus: cut, repeated, mixed, stretched, tilted and partly masked.

    Attributes:
        tower: From waveforms to features of unit length.
        body: The part of it that learns: from what `draw` gives to features of any length.
        labels: int64 [n_clips], the sound of each clip.
    """

    def __init__(self, corpus: EncoderCorpus, sizes: EncoderSizes) -> None:
        self._waves, self._lengths, self._window = corpus.waves, corpus.lengths, sizes.window_samples
        self.tower = AudioTower(sizes)
        self.body = self.tower.body
        self.labels = torch.from_numpy(corpus.sounds)

    def draw(self, rng: Generator, rows: Rows) -> Tensor:
        """One window of each clip, as a spectrogram: float32 [len(rows), 1, n_mels, n_spectra]."""
        windows = torch.from_numpy(np.stack([self._cut(rng, int(row)) for row in rows]))
        with torch.no_grad():
            spectra = self.tower.spectrogram(windows)
        return _mask(rng, _tilt(rng, _stretch(rng, spectra)))[:, None]

    def plain(self, rows: slice) -> Tensor:
        """Mean feature of the windows of each clip, the last filled by repeating: float32 [n, dim]."""
        waves = zip(self._waves[rows], self._lengths[rows], strict=True)
        pairs = [self._windows(wave[:length]) for wave, length in waves]
        features = self.tower(torch.from_numpy(np.concatenate(pairs)))
        groups = torch.split(features, [len(pair) for pair in pairs])
        return F.normalize(torch.stack([group.mean(dim=0) for group in groups]), dim=1)

    def _windows(self, wave: NDArray[np.int16]) -> NDArray[np.float32]:
        starts = range(0, max(len(wave), 1), self._window)
        rows = [np.resize(wave[start : start + self._window], self._window) for start in starts]
        return np.asarray(np.stack(rows) / 32767, np.float32)

    def _cut(self, rng: Generator, row: int) -> NDArray[np.float32]:
        """A stretch of a clip; now and then a short one, repeated as at the end of a clip."""
        length = int(self._lengths[row])
        wanted = self._window if rng.random() < 0.7 else int(self._window * rng.uniform(0.3, 1))
        start = int(rng.integers(max(length - wanted, 0) + 1))
        part = np.resize(self._waves[row, start : min(start + wanted, length)], self._window)
        other = self._waves[int(rng.integers(len(self._waves))), : self._window]
        wave = part.astype(np.float32) / (part.std() + 1.0)
        if rng.random() < 0.4:
            wave += other / (other.std() + 1.0) * np.float32(10 ** rng.uniform(-1.5, -0.5))
        return np.asarray(wave, np.float32)


Batches = Pictures | Sounds
"""Examples of one side of the clips, and the tower that they train."""


def _warp(rng: Generator, frames: Tensor) -> Tensor:
    """Scale, turn and shift each picture a little."""
    n = len(frames)
    scale, turn = np.exp(rng.uniform(-0.25, 0.2, n)), rng.uniform(-0.2, 0.2, n)
    grid = np.zeros((n, 2, 3), np.float32)
    grid[:, 0, 0], grid[:, 0, 1] = scale * np.cos(turn), -scale * np.sin(turn)
    grid[:, 1, 0], grid[:, 1, 1] = scale * np.sin(turn), scale * np.cos(turn)
    grid[:, :, 2] = rng.uniform(-0.12, 0.12, (n, 2))
    points = F.affine_grid(torch.from_numpy(grid), list(frames.shape), align_corners=False)
    return F.grid_sample(frames, points, padding_mode="reflection", align_corners=False)


def _recolour(rng: Generator, frames: Tensor) -> Tensor:
    """Permute the colour channels, change contrast and brightness."""
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(3), (len(frames), 1)), axis=1))
    shuffled = torch.gather(frames, 1, order[:, :, None, None].expand_as(frames))
    gain = torch.from_numpy(rng.uniform(0.6, 1.3, (len(frames), 1, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-0.4, 0.4, (len(frames), 1, 1, 1)).astype(np.float32))
    return shuffled * gain + shift


def _cover(rng: Generator, frames: Tensor) -> Tensor:
    """Cover a rectangle of some of the pictures."""
    size = frames.shape[-1]
    for row in np.flatnonzero(rng.random(len(frames)) < 0.4):
        top, left = rng.integers(0, size, 2)
        height, width = rng.integers(size // 12, size // 4, 2)
        frames[row, :, top : top + height, left : left + width] = float(rng.uniform(-1.5, 1.5))
    return frames


def _stretch(rng: Generator, spectra: Tensor) -> Tensor:
    """Move the batch in pitch by up to two bands and in tempo by up to a fifth."""
    n_spectra = spectra.shape[2]
    faster = math.exp(rng.uniform(-0.2, 0.0))
    part = spectra[:, :, : math.ceil(n_spectra * faster)]
    resized: Callable[..., Tensor] = F.interpolate
    stretched = resized(part, size=n_spectra, mode="linear", align_corners=False)
    return torch.roll(stretched, int(rng.integers(-2, 3)), dims=1)


def _tilt(rng: Generator, spectra: Tensor) -> Tensor:
    """Add a random slope over the bands, as a microphone does."""
    slope = torch.from_numpy(rng.normal(0, 0.25, (len(spectra), 1, 1)).astype(np.float32))
    return spectra + slope * torch.linspace(-1, 1, spectra.shape[1])[None, :, None]


def _mask(rng: Generator, spectra: Tensor) -> Tensor:
    """Blank a band and a moment of each spectrogram (SpecAugment)."""
    for spectrum in spectra:
        band, moment = int(rng.integers(0, 60)), int(rng.integers(0, spectra.shape[2]))
        spectrum[band : band + int(rng.integers(0, 8))] = 0.0
        spectrum[:, moment : moment + int(rng.integers(0, 20))] = 0.0
    return spectra
