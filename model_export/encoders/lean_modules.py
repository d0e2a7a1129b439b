"""Networks with less work in their graphs; the export compares each with the original."""

from __future__ import annotations

from typing import Any

from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torchlibrosa.stft import LogmelFilterBank, Spectrogram


def lean(network: nn.Module) -> nn.Module:
    """A copy that computes the same: attention with fewer steps, spectrograms without unused frequencies."""
    network = reparameterize_model(network)
    for module in list(network.modules()):
        attention = getattr(module, "attn", None)
        if isinstance(attention, nn.MultiheadAttention) and attention.batch_first:
            module.attn = SelfAttention(attention)
        parts = {type(child): child for child in module.children()}
        if Spectrogram in parts and LogmelFilterBank in parts:
            _drop_unused_bins(parts[Spectrogram], parts[LogmelFilterBank])
    return network


class SelfAttention(nn.Module):
    """Attention of a sequence [batch, length, dim] to itself, called as open_clip calls torch's.

    torch's own module moves the batch to the second axis, separates query, key and value by transposing, and
    scales both query and key: exported, 8 transpositions a layer. Here the scale is in the stored weights.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.n_heads = attention.num_heads
        self.head_dim = attention.embed_dim // attention.num_heads
        weight, bias = attention.in_proj_weight.detach().clone(), attention.in_proj_bias.detach().clone()
        for queries in (weight[: attention.embed_dim], bias[: attention.embed_dim]):
            queries *= self.head_dim**-0.5
        self.queries_keys_values = nn.Linear(attention.embed_dim, 3 * attention.embed_dim)
        self.queries_keys_values.weight = nn.Parameter(weight)
        self.queries_keys_values.bias = nn.Parameter(bias)
        self.out = attention.out_proj

    def forward(self, x: Tensor, *_: Any, attn_mask: Tensor | None = None, **__: Any) -> tuple[Tensor, None]:
        """Attend; the mask is added to the logits."""
        batch, length, dim = x.shape
        parts = self.queries_keys_values(x).split(dim, dim=-1)
        queries, keys, values = (p.reshape(batch, length, self.n_heads, self.head_dim) for p in parts)
        logits = queries.transpose(1, 2) @ keys.permute(0, 2, 3, 1)
        if attn_mask is not None:
            logits = logits + attn_mask
        attended = logits.softmax(dim=-1) @ values.transpose(1, 2)
        return self.out(attended.transpose(1, 2).reshape(batch, length, dim)), None


def _drop_unused_bins(spectrogram: Any, log_mel: Any) -> None:
    """Leave out the frequencies above the last filter: of CLAP's 513 bins, 214 have no weight in any."""
    used = int(log_mel.melW.abs().sum(dim=1).nonzero().max()) + 1
    log_mel.melW = _frozen(log_mel.melW[:used])
    for convolution in (spectrogram.stft.conv_real, spectrogram.stft.conv_imag):
        convolution.weight = _frozen(convolution.weight[:used])
        convolution.out_channels = used


def _frozen(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
