"""Encoders as modules of one tensor: inputs as the service has them, unit features out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize


class PictureTower(nn.Module):
    """frames uint8 [batch, size, size, 3] RGB to features [batch, dim].

    Args:
        visual: Network of pixels [batch, 3, size, size] to features of any length.
        mean: Of each colour's pixels, subtracted from them.
        std: Likewise, by which they are divided then.
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
        """What the network sees of frames: float32 [batch, 3, size, size], normalised."""
        return (frames.permute(0, 3, 1, 2).float() / self.white - self.mean) / self.std


class CausalTextTower(nn.Module):
    """A text side of open_clip that looks back only, for rows of any length.

    What comes after the end token is never seen; open_clip's own encode_text takes full rows only.
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
    """The text side of any other open_clip model, for rows of the context length."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [batch, context_length] to features [batch, dim]."""
        features: Tensor = self.clip.encode_text(tokens, normalize=True)
        return features


def text_tower(clip: Any) -> CausalTextTower | FullTextTower:
    """The text side of an open_clip model, for rows of any length if that can be."""
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
