"""The six small networks of CLIP-CLAP, which AHSE keeps: encoders, projections and decoders.

The flow in training; at inference the decoders are left out:

    visual, audio ──> av_encoder ──> av_projection ──> theta_av ──> av_decoder ──┐
                                                                                 ├─> rebuild text_hidden
    text          ──> text_encoder ─> text_projection ─> theta_text ─> text_decoder
                           └─ text_hidden
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.head.head_config import EMBEDDING_DIM, HIDDEN_DIM, HeadConfig


class Block(nn.Sequential):
    """Linear, batch norm, ReLU, dropout: [n, n_in] -> [n, n_out], never negative."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(dropout))


class HeadNetwork(nn.Module):
    """CLIP-CLAP's networks; 2,237,824 parameters at the published 512-d and 1024-d features.

    Args:
        config: Which features are used, the dropout, the logit scale.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.

    Attributes:
        logit_scale: Factor on the logits of the cross entropy.
    """

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__()
        self.modality = config.modality
        self.text = config.text
        d, h, p = EMBEDDING_DIM, HIDDEN_DIM, config.dropout
        uses_clip, uses_clap = self.uses_text()
        n_av = n_visual * (self.modality != "audio") + n_audio * (self.modality != "visual")
        self.av_encoder = Block(n_av, h, p)
        self.text_encoder = Block(n_visual * uses_clip + n_audio * uses_clap, h, p)
        self.av_projection = nn.Sequential(Block(h, h, p), Block(h, d, p))
        self.text_projection = Block(h, d, p)
        self.av_decoder = nn.Sequential(Block(d, h, p), Block(h, h, p))
        self.text_decoder = Block(d, h, p)
        self.logit_scale = 1.0 if config.logit_scale == "reference" else 1.0 / math.sqrt(d)

    def uses_text(self) -> tuple[bool, bool]:
        """Whether the CLIP and the CLAP text features are used."""
        if self.modality != "both":
            return self.modality == "visual", self.modality == "audio"
        return self.text != "clap", self.text != "clip"

    def embed_av(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio] -> theta_av [n, 64]."""
        parts = {"both": (visual, audio), "visual": (visual,), "audio": (audio,)}[self.modality]
        theta: Tensor = self.av_projection(self.av_encoder(unit_columns(parts)))
        return theta

    def text_input(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """Text features [c, n_visual], [c, n_audio] -> what `text_encoder` takes, [c, n_text].

        Training makes it once a stage: the classes are the same in every batch.
        """
        used = zip((text_visual, text_audio), self.uses_text(), strict=True)
        return unit_columns(tuple(part for part, use in used if use))

    def embed_text(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """Text features [c, n_visual], [c, n_audio] -> theta_text [c, 64]."""
        theta: Tensor = self.text_projection(self.text_encoder(self.text_input(text_visual, text_audio)))
        return theta


def unit_columns(parts: tuple[Tensor, ...]) -> Tensor:
    """L2-normalise the rows of each part [n, d_i] and concatenate them: [n, sum of d_i]."""
    return torch.cat([F.normalize(part, dim=1) for part in parts], dim=1)


class HeadAv(nn.Module):
    """Clip features -> theta_av, not standardised; the statistics are applied outside the graph."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """[n, n_visual], [n, n_audio], any length but zero -> float32 [n, 64]."""
        return self.network.embed_av(visual, audio)


class HeadText(nn.Module):
    """Text features -> theta_text, not standardised; the statistics are applied outside the graph."""

    def __init__(self, network: HeadNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """[c, n_visual], [c, n_audio], any length but zero -> float32 [c, 64]."""
        return self.network.embed_text(text_visual, text_audio)
