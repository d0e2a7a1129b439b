"""Encoders as torch modules: from inputs as the service prepares them to features of unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchlibrosa.stft import LogmelFilterBank, Spectrogram


class ImageTower(nn.Module):
    """frames uint8 [batch, size, size, 3] RGB to features [batch, dim].

    Args:
        visual: Network of pixels [batch, 3, size, size] to features of any length.
        mean: Mean of each colour, which is subtracted.
        std: Standard deviation of each colour, by which the difference is divided.
        white: Value of a byte that counts as 1 in `mean` and `std`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, visual: nn.Module, mean: Sequence[float], std: Sequence[float], white: float = 255.0
    ) -> None:
        super().__init__()
        self.visual = visual
        self.white = white
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise as the model's own transform does, and encode."""
        return normalize(self.visual(self.pixels(frames)), dim=-1)

    def pixels(self, frames: Tensor) -> Tensor:
        """Frames as the network takes them: float32 [batch, 3, size, size], normalised."""
        return (frames.permute(0, 3, 1, 2).float() / self.white - self.mean) / self.std


class CausalTextTower(nn.Module):
    """A text encoder of open_clip with a causal mask, for rows of any length.

    A token attends to earlier ones only, so what follows the end token has no effect; open_clip's own
    encode_text takes rows of the context length only.
    """

    def __init__(self, text: Any, pool_type: str, eos_id: int | None) -> None:
        super().__init__()
        self.text = text
        self.pool_type = pool_type
        self.eos_id = eos_id

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [batch, length] to features [batch, dim]."""
        text, length = self.text, tokens.shape[1]
        x = text.token_embedding(tokens) + text.positional_embedding[:length]
        x = text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))
        x = text_global_pool(x, tokens, self.pool_type, eos_token_id=self.eos_id)
        projection = text.text_projection
        return normalize(projection(x) if isinstance(projection, nn.Linear) else x @ projection, dim=-1)


class FullTextTower(nn.Module):
    """The text encoder of any other open_clip model, for rows of the context length."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [batch, context_length] to features [batch, dim]."""
        features: Tensor = self.clip.encode_text(tokens, normalize=True)
        return features


def text_tower(clip: Any) -> CausalTextTower | FullTextTower:
    """The text encoder of an open_clip model, for rows of any length where its architecture allows that."""
    if type(clip) is CLIP:
        text, pool_type, eos_id = clip, clip.text_pool_type, getattr(clip, "text_eos_id", None)
    else:
        text = getattr(clip, "text", None)
        pool_type, eos_id = getattr(text, "pool_type", ""), getattr(text, "eos_id", None)
    plain = text is clip or (type(text) is TextTransformer and text.cls_emb is None)
    causal = plain and text.attn_mask is not None and text.text_projection is not None
    if causal and pool_type in ("argmax", "eos"):
        return CausalTextTower(text, pool_type, eos_id)
    return FullTextTower(clip)


class LaionAudioTower(nn.Module):
    """waveform float32 [batch, samples] to features [batch, dim], spectrogram and HTSAT of laion_clap."""

    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.branch = clap.audio_branch
        self.projection = clap.audio_projection

    def forward(self, waveform: Tensor) -> Tensor:
        """Round to 16 bits and back, as laion_clap does with every file, and encode."""
        # Integers cut off what is after the point in one step, torch.trunc in four.
        sound = (waveform.clamp(-1, 1) * 32767).int().float() / 32767
        return normalize(self.projection(self.branch({"waveform": sound})["embedding"]), dim=-1)


class LaionTextTower(nn.Module):
    """tokens int64 [batch, length] to features [batch, dim]; the padding is found by its id."""

    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.branch = clap.text_branch
        self.projection = clap.text_projection

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode; padding is masked."""
        mask = (tokens != self.branch.config.pad_token_id).long()
        pooled = self.branch(input_ids=tokens, attention_mask=mask)["pooler_output"]
        return normalize(self.projection(pooled), dim=-1)


class TransformersAudioTower(nn.Module):
    """waveform float32 [batch, samples] to features [batch, dim], spectrogram inside."""

    def __init__(self, clap: Any, log_mel: LogMel) -> None:
        super().__init__()
        self.log_mel = log_mel
        self.model = clap.audio_model
        self.projection = clap.audio_projection

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode; transformers does not round to 16 bits, so neither does this."""
        pooled = self.model(input_features=self.log_mel(waveform)).pooler_output
        return normalize(self.projection(pooled), dim=-1)


class TransformersTextTower(nn.Module):
    """tokens int64 [batch, length] to features [batch, dim]; the padding is found by its id."""

    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.model = clap.text_model
        self.projection = clap.text_projection

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode; padding is masked."""
        mask = (tokens != self.model.config.pad_token_id).long()
        pooled = self.model(input_ids=tokens, attention_mask=mask).pooler_output
        return normalize(self.projection(pooled), dim=-1)


class LogMel(nn.Module):
    """waveform float32 [batch, samples] to log-mel float32 [batch, 1, time, mels], in dB.

    A module of its own, since weights in transformers' format leave the spectrogram to code outside. Hann
    window, centred with reflection, power, Slaney's mel scale and norm: what transformers'
    ClapFeatureExtractor computes for models without feature fusion, and laion_clap inside its network.
    """

    def __init__(
        self, *, sample_rate_hz: int, n_fft: int, hop: int, n_mels: int, f_min: float, f_max: float
    ) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop, win_length=n_fft, freeze_parameters=True)
        self.log_mel = LogmelFilterBank(
            sr=sample_rate_hz,
            n_fft=n_fft,
            n_mels=n_mels,
            fmin=f_min,
            fmax=f_max,
            ref=1.0,
            amin=1e-10,
            top_db=None,
            freeze_parameters=True,
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """The spectrogram of each waveform."""
        log_mel: Tensor = self.log_mel(self.spectrogram(waveform))
        return log_mel


def fourier_kernels(window: int, n_fft: int) -> Tensor:
    """The windowed discrete Fourier transform as kernels of a convolution, cosines first.

    Args:
        window: Samples under the periodic Hann window, at most `n_fft`.
        n_fft: Length of the transform.

    Returns:
        float32 [2 * (n_fft // 2 + 1), 1, window].
    """
    phase = 2 * np.pi / n_fft * np.outer(np.arange(n_fft // 2 + 1), np.arange(window))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    kernels = np.concatenate([np.cos(phase), np.sin(phase)]) * hann
    return torch.from_numpy(kernels[:, None].astype(np.float32))
