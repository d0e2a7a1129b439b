"""Networks with less work in their graphs; the export compares each with the original."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torchlibrosa.stft import LogmelFilterBank, Spectrogram
from transformers.models.clap.modeling_clap import ClapAudioSelfAttention


def lean(network: nn.Module) -> nn.Module:
    """A copy that computes the same: attention in fewer steps, spectrograms without unused frequencies."""
    network = reparameterize_model(network)
    for module in list(network.modules()):
        attention = getattr(module, "attn", None)
        if isinstance(attention, nn.MultiheadAttention) and attention.batch_first:
            module.attn = SelfAttention(attention)
        for name, child in list(module.named_children()):
            if isinstance(child, ClapAudioSelfAttention) or _is_laions(child):
                setattr(module, name, WindowAttention(child))
        parts = {type(child): child for child in module.children()}
        if Spectrogram in parts and LogmelFilterBank in parts:
            _drop_unused_bins(parts[Spectrogram], parts[LogmelFilterBank])
    return network


class SelfAttention(nn.Module):
    """Attention of a sequence [batch, length, dim] to itself, called as open_clip calls torch's.

    torch's own module moves the batch to the second axis, separates query, key and value by transposing, and
    scales both query and key: exported, 8 transpositions a layer. Here the scale is in the stored weights,
    and each of the three has a layer of its own.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.n_heads = attention.num_heads
        self.head_dim = attention.embed_dim // attention.num_heads
        self.queries, self.keys, self.values = _thirds(attention.in_proj_weight, attention.in_proj_bias)
        _scale(self.queries, self.head_dim**-0.5)
        self.out = attention.out_proj

    def forward(self, x: Tensor, *_: Any, attn_mask: Tensor | None = None, **__: Any) -> tuple[Tensor, None]:
        """Attend; the mask is added to the logits."""
        batch, length, dim = x.shape
        shape = (batch, length, self.n_heads, self.head_dim)
        queries, keys, values = (part(x).reshape(shape) for part in (self.queries, self.keys, self.values))
        logits = queries.transpose(1, 2) @ keys.permute(0, 2, 3, 1)
        if attn_mask is not None:
            logits = logits + attn_mask
        attended = logits.softmax(dim=-1) @ values.transpose(1, 2)
        return self.out(attended.transpose(1, 2).reshape(batch, length, dim)), None


class WindowAttention(nn.Module):
    """Attention within the windows of a Swin transformer, called as laion_clap and transformers call theirs.

    Their masks are -100 between what a shifted window brings together from two ends. e^-100 is below the
    smallest normal float32 (1.2e-38), and many processors need many times as long for such a number: in the
    products with the values that was a third of CLAP's time. e^-50 adds as little to a sum of softmax, and
    is a normal number unless logits differ by tens.
    """

    bias: Tensor

    def __init__(self, attention: Any) -> None:
        super().__init__()
        if _is_laions(attention):
            self.n_heads = attention.num_heads
            self.queries, self.keys, self.values = _thirds(attention.qkv.weight, attention.qkv.bias)
            self.out = attention.proj
        else:
            self.n_heads = attention.num_attention_heads
            self.queries, self.keys, self.values = deepcopy([attention.query, attention.key, attention.value])
            self.out = nn.Identity()  # it is a module beside the attention
        self.head_dim = self.queries.out_features // self.n_heads
        _scale(self.queries, self.head_dim**-0.5)
        length = attention.relative_position_index.shape[0]
        table, index = attention.relative_position_bias_table.detach(), attention.relative_position_index
        self.register_buffer("bias", table[index.flatten()].view(length, length, -1).permute(2, 0, 1).clone())

    def forward(self, x: Tensor, mask: Tensor | None = None, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Attend in windows [n, length, dim]; the mask is [n of one picture, length, length]."""
        n_windows, length, dim = x.shape
        shape = (n_windows, length, self.n_heads, self.head_dim)
        queries, keys, values = (part(x).view(shape) for part in (self.queries, self.keys, self.values))
        logits = queries.transpose(1, 2) @ keys.permute(0, 2, 3, 1)
        if mask is None:
            logits = logits + self.bias
        else:
            of_pictures = logits.view(-1, len(mask), *logits.shape[1:])
            logits = (of_pictures + (self.bias + 0.5 * mask[:, None])).view(logits.shape)
        weights = logits.softmax(dim=-1)
        attended = weights @ values.transpose(1, 2)
        return self.out(attended.transpose(1, 2).reshape(n_windows, length, dim)), weights


def _is_laions(module: nn.Module) -> bool:
    """Whether it is the window attention of laion_clap, whose package can't simply be imported."""
    kind = type(module)
    return kind.__module__.endswith("htsat") and kind.__name__ == "WindowAttention"


def _thirds(weight: Tensor, bias: Tensor | None) -> list[nn.Linear]:
    """A layer of queries, keys and values as three layers: parts of one output would have to be copied."""
    layers = []
    for part, weights in enumerate(weight.chunk(3)):
        layer = nn.Linear(weights.shape[1], weights.shape[0], bias=bias is not None)
        layer.weight = _frozen(weights)
        if bias is not None:
            layer.bias = _frozen(bias.chunk(3)[part])
        layers.append(layer)
    return layers


def _scale(layer: nn.Linear, factor: float) -> None:
    for parameter in layer.parameters():
        parameter.detach().mul_(factor)


def _drop_unused_bins(spectrogram: Any, log_mel: Any) -> None:
    """Leave out the frequencies above the last filter: of CLAP's 513 bins, 214 have no weight in any."""
    used = int(log_mel.melW.abs().sum(dim=1).nonzero().max()) + 1
    log_mel.melW = _frozen(log_mel.melW[:used])
    for convolution in (spectrogram.stft.conv_real, spectrogram.stft.conv_imag):
        convolution.weight = _frozen(convolution.weight[:used])
        convolution.out_channels = used


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
