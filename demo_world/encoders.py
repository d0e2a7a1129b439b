"""The demo world's encoders: a tiny CLIP and a tiny CLAP, their weights on disk, and the bundle they make.

Each tower's `forward` is exactly its ONNX graph. Features have unit length.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from demo_world.captions import Side
from demo_world.world import AUDIO_TEMPLATES, VISUAL_TEMPLATES
from model_export.encoders.custom import CustomBundle
from model_export.encoders.encoder_modules import ImageTower, fourier_kernels
from model_export.encoders.encoder_types import AudioEncoder, ImageEncoder, TextEncoder
from model_export.encoders.weights_file import load_all, read_state
from service.bundle.provenance import Licence

TEMPLATES: dict[Side, tuple[str, ...]] = {"visual": VISUAL_TEMPLATES, "audio": AUDIO_TEMPLATES}
SIZES_FILE, TOKENIZER_FILE = "encoders.json", "tokenizer.json"

_MAX_AUDIO_S = 30.0
# Silence is the worst case: its spectrogram is nothing but the rounding of a mean.
_TOLERANCE = 5e-5
_LICENCE = Licence(
    part="all weights and example clips",
    licence="Apache-2.0",
    source="made by `python -m demo_world build`, no outside data",
)


@dataclass(frozen=True)
class EncoderSizes:
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
    """A small residual network: [n, n_in, h, w] -> features [n, dim] of any length."""

    def __init__(self, n_in: int, widths: tuple[int, ...], dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(n_in, widths[0], 2)]
        for before, width in pairwise(widths):
            layers += [_conv(before, width, 2), Residual(width)]
        self.stages = nn.Sequential(*layers)
        self.project = nn.Linear(2 * widths[-1], dim)

    def forward(self, x: Tensor) -> Tensor:
        """Pool the last stage by mean and by maximum, and project."""
        grid = self.stages(x).flatten(2)
        features: Tensor = self.project(torch.cat([grid.mean(dim=2), grid.amax(dim=2)], dim=1))
        return features


def image_tower(sizes: EncoderSizes) -> ImageTower:
    """`frames` uint8 [n, size, size, 3], RGB -> float32 [n, dim]; pixels become (value - 127.5) / 64."""
    body = ConvBody(3, sizes.image_widths, sizes.dim)
    return ImageTower(body, mean=(127.5 / 64,) * 3, std=(1.0,) * 3, white=64.0)


class AudioTower(nn.Module):
    """Waveforms to features, by way of a log-mel spectrogram made of convolutions."""

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        self.hop = sizes.hop
        self.n_bands = sizes.n_fft // 2 + 1
        # Scaled so that a sine of amplitude 1 in the middle of a band has the magnitude 0.5.
        self.register_buffer("fourier", fourier_kernels(sizes.n_fft, sizes.n_fft) * (2 / sizes.n_fft))
        self.register_buffer("mel", torch.from_numpy(_mel(sizes))[..., None])
        self.body = ConvBody(1, sizes.audio_widths, sizes.dim)

    def forward(self, waveform: Tensor) -> Tensor:
        """`waveform` float32 [n, window_samples], -1..1 -> float32 [n, dim], unit length."""
        return F.normalize(self.body(self.spectrogram(waveform)[:, None]), dim=1)

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

    def __init__(self, sizes: EncoderSizes) -> None:
        super().__init__()
        width = sizes.text_width
        self.tokens = nn.Embedding(sizes.vocabulary_size, width)
        self.places = nn.Parameter(torch.randn(sizes.context_length, width) * 0.02)
        self.layers = nn.ModuleList(Attention(width) for _ in range(sizes.text_layers))
        self.norm = nn.LayerNorm(width)
        self.score = nn.Linear(width, 1)
        self.project = nn.Linear(width, sizes.dim)

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
        """Mix x [n, length, width]; hidden [n, 1, 1, length], very negative where there is padding."""
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


def _mel(sizes: EncoderSizes) -> NDArray[np.float32]:
    """Triangles on the mel scale from 40 Hz to nearly half the sample rate, [n_mels, bands]."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (40.0, 0.475 * sizes.sample_rate_hz))
    edges = 700 * (10 ** (np.linspace(low, high, sizes.n_mels + 2) / 2595) - 1)
    f = np.fft.rfftfreq(sizes.n_fft, 1 / sizes.sample_rate_hz)
    # A band narrower than the spectrum's step would be empty: make it at least two steps wide.
    step = f[1]
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rise = (f - middle) / np.maximum(middle - left, step) + 1
    fall = (middle - f) / np.maximum(right - middle, step) + 1
    return np.asarray(np.clip(np.minimum(rise, fall), 0, None), np.float32)


def save_tower(tower: nn.Module, path: Path) -> None:
    """Write a tower's weights."""
    save_file({name: tensor.contiguous() for name, tensor in tower.state_dict().items()}, path)


def save_sizes(folder: Path, sizes: EncoderSizes, logit_scales: Mapping[Side, float]) -> None:
    """Write the sizes and the learned logit scales; the folder of encoders is complete with them."""
    record = {"config": asdict(sizes), "logit_scales": dict(logit_scales)}
    (folder / SIZES_FILE).write_text(json.dumps(record, indent=2) + "\n")


def load_encoders(folder: Path) -> CustomBundle:
    """Read a folder of trained encoders as the bundle that they make, without a trained head.

    It is a function as `ahse export custom demo_world.encoders:load_encoders --work FOLDER` takes one.

    Args:
        folder: Weights of the four towers, sizes and tokenizer, as `demo_world.training` writes them.

    Raises:
        EncoderError: The weights are of other towers.
    """
    record: dict[str, Any] = json.loads((folder / SIZES_FILE).read_text())
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record["config"].items()
    }
    sizes, scales = EncoderSizes(**fields), record["logit_scales"]
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    image = ImageEncoder(
        module=_filled(image_tower(sizes), folder / "visual.safetensors"),
        text=_text_encoder("visual", folder, sizes, tokenizer),
        dim=sizes.dim,
        size_px=sizes.image_size_px,
        resize="shorter_side_bicubic_center_crop",
        logit_scale=scales["visual"],
        licence=_LICENCE,
    )
    audio = AudioEncoder(
        module=_filled(AudioTower(sizes), folder / "audio.safetensors"),
        text=_text_encoder("audio", folder, sizes, tokenizer),
        dim=sizes.dim,
        sample_rate_hz=sizes.sample_rate_hz,
        window_s=sizes.window_s,
        padding="repeat",
        logit_scale=scales["audio"],
        licence=_LICENCE,
    )
    return CustomBundle(
        image=image,
        audio=audio,
        description="The demo world's encoders, without a trained head.",
        data="procedurally made clips of the demo world",
        card="# The demo world's encoders\n\nThe trained head stands in the demo bundle.\n",
        version="1.0.0",
        max_audio_s=_MAX_AUDIO_S,
        tolerance=_TOLERANCE,
    )


def _text_encoder(side: Side, folder: Path, sizes: EncoderSizes, tokenizer: Tokenizer) -> TextEncoder:
    return TextEncoder(
        module=_filled(TextTower(sizes), folder / f"text_{side}.safetensors"),
        tokenizer=tokenizer,
        context_length=sizes.context_length,
        dynamic_length=False,
        pad_id=0,
        templates=TEMPLATES[side],
    )


def _filled(tower: nn.Module, weights: Path) -> nn.Module:
    """The tower with weights from a file, in evaluation mode."""
    load_all(tower, read_state(weights), "tower of the demo world", weights.name)
    return tower.eval()
