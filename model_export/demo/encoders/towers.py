"""The tiny towers: what CLIP and CLAP are, at a few hundred thousand weights each.

Each tower's `forward` is exactly its ONNX graph. Features have unit length.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class TinyConfig:
    """Sizes of the four towers.

    Attributes:
        dim: Length of every feature.
        image_size_px: Side of the pictures.
        sample_rate_hz: Of the waveform.
        window_s: Length of one audio window.
        n_fft: Samples of one spectrum; half of it and one are its bands.
        hop: Samples from one spectrum to the next.
        n_mels: Bands of the mel scale.
        image_widths: Channels of the picture's stages, each at half the size of the one before.
        audio_widths: Channels of the spectrogram's stages, likewise.
        vocabulary_size: Tokens that the text towers know.
        context_length: Tokens of one text.
        text_width: Of the text towers.
        text_layers: Of the text towers.
    """

    dim: int = 128
    image_size_px: int = 96
    sample_rate_hz: int = 16_000
    window_s: float = 2.0
    n_fft: int = 512
    hop: int = 200
    n_mels: int = 64
    image_widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    audio_widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    vocabulary_size: int = 640
    context_length: int = 32
    text_width: int = 96
    text_layers: int = 2

    @property
    def window_samples(self) -> int:
        """Samples of one audio window."""
        return round(self.window_s * self.sample_rate_hz)


def _conv(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width, 1)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[n, width, h, w] -> the same shape."""
        return F.relu(x + self.second(self.first(x)))


class ConvBody(nn.Module):
    """A small residual network: [n, n_in, h, w] -> unit features [n, dim]."""

    def __init__(self, n_in: int, widths: tuple[int, ...], dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(n_in, widths[0], 2)]
        for before, width in pairwise(widths):
            layers += [_conv(before, width, 2), Residual(width)]
        self.stages = nn.Sequential(*layers)
        self.project = nn.Linear(2 * widths[-1], dim)

    def forward(self, x: Tensor) -> Tensor:
        """Pools the last stage by mean and by maximum, projects, and scales to unit length."""
        grid = self.stages(x).flatten(2)
        pooled = torch.cat([grid.mean(dim=2), grid.amax(dim=2)], dim=1)
        return F.normalize(self.project(pooled), dim=1)


class VisualTower(nn.Module):
    """Pictures to features."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.body = ConvBody(3, config.image_widths, config.dim)

    def forward(self, frames: Tensor) -> Tensor:
        """`frames` uint8 [n, size, size, 3], RGB -> float32 [n, dim], unit length."""
        pixels = frames.permute(0, 3, 1, 2).to(torch.float32)
        features: Tensor = self.body((pixels - 127.5) / 64.0)
        return features


class AudioTower(nn.Module):
    """Waveforms to features, by way of a log-mel spectrogram made of convolutions."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.hop = config.hop
        self.n_bands = config.n_fft // 2 + 1
        self.register_buffer("fourier", torch.from_numpy(_fourier(config.n_fft))[:, None])
        self.register_buffer("mel", torch.from_numpy(_mel(config))[..., None])
        self.body = ConvBody(1, config.audio_widths, config.dim)

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` float32 [n, window_samples], -1..1 -> float32 [n, dim], unit length."""
        features: Tensor = self.body(self.spectrogram(waveform)[:, None])
        return features

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrogram [n, n_mels, n_spectra] of the waveform at unit power, less its own mean."""
        # A floor, not a summand: the exporter takes an added 1e-8 for nothing, and silence became NaN.
        loudness = torch.sqrt((waveform * waveform).mean(dim=1, keepdim=True)).clamp_min(1e-4)
        waves = F.conv1d((waveform / loudness)[:, None], self.get_buffer("fourier"), stride=self.hop)
        real, imaginary = waves[:, : self.n_bands], waves[:, self.n_bands :]
        power = F.conv1d(real * real + imaginary * imaginary, self.get_buffer("mel"))
        log = torch.log(power + 1e-5)
        return (log - log.mean(dim=(1, 2), keepdim=True)) / 2.0


class TextTower(nn.Module):
    """Texts to features: a small transformer over tokens, token 0 being padding."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        width = config.text_width
        self.tokens = nn.Embedding(config.vocabulary_size, width)
        self.places = nn.Parameter(torch.randn(config.context_length, width) * 0.02)
        self.layers = nn.ModuleList(Attention(width) for _ in range(config.text_layers))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        self.project = nn.Linear(width, config.dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """`tokens` int64 [n, context_length] -> float32 [n, dim], unit length."""
        hidden = (tokens == 0).to(torch.float32) * -1e4
        x = self.tokens(tokens) + self.places[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, hidden[:, None, None, :])
        x = self.norm(x)
        weights = torch.softmax(self.score(x)[..., 0] + hidden, dim=1)
        return F.normalize(self.project((weights[..., None] * x).sum(dim=1)), dim=1)


class Attention(nn.Module):
    """One transformer layer, norms first."""

    def __init__(self, width: int, n_heads: int = 4) -> None:
        super().__init__()
        self.n_heads, self.width = n_heads, width
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Mixes x [n, length, width]; hidden [n, 1, 1, length], very negative where there is padding."""
        x = x + self._attend(self.before(x), hidden)
        mixed: Tensor = x + self.contract(F.gelu(self.expand(self.after(x))))
        return mixed

    def _attend(self, x: Tensor, hidden: Tensor) -> Tensor:
        length = x.shape[1]
        parts = self.mix(x).reshape(-1, length, 3, self.n_heads, self.width // self.n_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        likeness = query @ key.transpose(2, 3) * (self.width // self.n_heads) ** -0.5
        weights = torch.softmax(likeness + hidden, dim=3)
        joined: Tensor = self.out((weights @ value).transpose(1, 2).reshape(-1, length, self.width))
        return joined


def _fourier(n_fft: int) -> NDArray[np.float32]:
    """Rows of the windowed discrete Fourier transform: cosines, then sines, [2 * bands, n_fft]."""
    angle = 2 * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft
    window = np.hanning(n_fft + 1)[:-1] * (2 / n_fft)
    return np.concatenate([np.cos(angle) * window, np.sin(angle) * window]).astype(np.float32)


def _mel(config: TinyConfig) -> NDArray[np.float32]:
    """Triangles on the mel scale from 40 Hz to nearly half the sample rate, [n_mels, bands]."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (40.0, 0.475 * config.sample_rate_hz))
    edges = 700 * (10 ** (np.linspace(low, high, config.n_mels + 2) / 2595) - 1)
    f = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate_hz)
    # A band narrower than the spectrum's step would be empty: make it at least two steps wide.
    step = f[1]
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise = (f - middle) / np.maximum(middle - left, step) + 1
    fall = (middle - f) / np.maximum(right - middle, step) + 1
    return np.asarray(np.clip(np.minimum(rise, fall), 0, None), np.float32)


def example_inputs(config: TinyConfig, n: int, seed: int = 0) -> dict[str, tuple[str, Tensor]]:
    """Random inputs of each tower, as tower name -> (input name, tensor with n rows)."""
    draw = torch.Generator().manual_seed(seed)
    size = config.image_size_px
    tokens = torch.randint(1, config.vocabulary_size, (n, config.context_length), generator=draw)
    tokens[:, config.context_length // 2 :] = 0
    frames = torch.randint(0, 256, (n, size, size, 3), generator=draw, dtype=torch.uint8)
    waveform = torch.randn(n, config.window_samples, generator=draw) * 0.1
    return {
        "visual": ("frames", frames),
        "audio": ("waveform", waveform),
        "text_visual": ("tokens", tokens),
        "text_audio": ("tokens", tokens),
    }
