"""Encoders as modules of one tensor: inputs as the service has them, unit features out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize


class PictureTower(nn.Module):
    """frames uint8 [batch, size, size, 3] RGB to features [batch, dim]; mean and std are of pixels 0..1."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise as the model's own transform does, and encode."""
        pixels = frames.permute(0, 3, 1, 2).float() / 255
        return normalize(self.visual((pixels - self.mean) / self.std), dim=-1)


class CausalTextTower(nn.Module):
    """The text side of an open_clip CLIP for rows of any length.

    What comes after the end token is never seen; open_clip's own encode_text takes full rows only.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [batch, length] to features [batch, dim]."""
        clip, length = self.clip, tokens.shape[1]
        x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
        x = text_global_pool(x, tokens, clip.text_pool_type, eos_token_id=getattr(clip, "text_eos_id", None))
        projection = clip.text_projection
        return normalize(projection(x) if isinstance(projection, nn.Linear) else x @ projection, dim=-1)


class FullTextTower(nn.Module):
    """The text side of any other open_clip model, for rows of the context length."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [batch, context_length] to features [batch, dim]."""
        features: Tensor = self.clip.encode_text(tokens, normalize=True)
        return features


class LaionSoundTower(nn.Module):
    """waveform float32 [batch, samples] to features [batch, dim], spectrogram and HTSAT of laion_clap."""

    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.branch = clap.audio_branch
        self.projection = clap.audio_projection

    def forward(self, waveform: Tensor) -> Tensor:
        """Round to 16 bits and back, as laion_clap does with every file, and encode."""
        sound = torch.trunc(waveform.clamp(-1, 1) * 32767) / 32767
        return normalize(self.projection(self.branch({"waveform": sound})["embedding"]), dim=-1)


class LaionTextTower(nn.Module):
    """tokens int64 [batch, length] to features [batch, dim]; the padding is found by its id."""

    def __init__(self, clap: Any) -> None:
        super().__init__()
        self.branch = clap.text_branch
        self.projection = clap.text_projection

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode what is no padding."""
        mask = (tokens != self.branch.config.pad_token_id).long()
        pooled = self.branch(input_ids=tokens, attention_mask=mask)["pooler_output"]
        return normalize(self.projection(pooled), dim=-1)
