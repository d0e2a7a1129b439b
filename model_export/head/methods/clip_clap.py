"""CLIP-CLAP (Kurzendörfer et al., CVPR Workshops 2024), the baseline; AHSE keeps its networks and adds to it.

The flow in training; at inference the decoders are left out:

    visual, audio ──> av_encoder ──> av_projection ──> theta_av ──> av_decoder ──┐
                                                                                 ├─> rebuild text_hidden
    text          ──> text_encoder ─> text_projection ─> theta_text ─> text_decoder
                           └─ text_hidden

The public code (dkurzend/ClipClap-GZSL) runs the text branch twice in each step, first for the classes of the
batch, row by row, then for all classes, so that its batch norms see both; `follow="code"` does so too. The
paper has one text branch (`follow="paper"`).

What the settings `adapter_scale` and `quality_weights` put before both encoders is in track_features.py.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.data.gzsl_data import SINGLE_TRACKS, Track
from model_export.head.head_config import HeadConfig
from model_export.head.methods import ahse
from model_export.head.methods.terms import rows_of
from model_export.head.methods.track_features import QualityWeights, ResidualAdapter
from model_export.head.network import Block, HeadNetwork, unit_columns
from model_export.head.standardisation import moments_for, standardise
from model_export.head.training_batches import Batch


class ClipClap(HeadNetwork):
    """CLIP-CLAP's networks; 2,237,824 parameters at the published 512-d and 1024-d features.

    Args:
        config: Which features are used, the sizes, the dropout, the terms of the loss.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.

    Attributes:
        logit_scale: Factor on the logits of the cross entropy.
    """

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__(config, n_visual, n_audio)
        d, h, p = config.embedding_dim, config.hidden_dim, config.dropout
        uses_clip, uses_clap = self.uses_text()
        n_av = n_visual * (config.modality != "audio") + n_audio * (config.modality != "visual")
        self.av_encoder = Block(n_av, h, p)
        self.text_encoder = Block(n_visual * uses_clip + n_audio * uses_clap, h, p)
        self.av_projection = nn.Sequential(Block(h, h, p), Block(h, d, p))
        self.text_projection = Block(h, d, p)
        self.av_decoder = nn.Sequential(Block(d, h, p), Block(h, h, p))
        self.text_decoder = Block(d, h, p)
        self.logit_scale = 1.0 if config.logit_scale == "reference" else 1.0 / math.sqrt(d)
        # Last, so that a seed gives all other weights as it does without these.
        self.adapters = self._new_adapters() if config.adapter_scale else None
        self.quality = QualityWeights(n_visual, n_audio) if config.quality_weights else None

    def uses_tracks(self) -> tuple[bool, bool]:
        """Whether the visual and the audio features are used."""
        return self.config.modality != "audio", self.config.modality != "visual"

    def uses_text(self) -> tuple[bool, bool]:
        """Whether the CLIP and the CLAP text features are used."""
        modality, text = self.config.modality, self.config.text
        if modality != "both":
            return modality == "visual", modality == "audio"
        return text != "clap", text != "clip"

    def embed_av(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio] -> theta_av [n, d]."""
        parts = tuple(part for part, use in zip((visual, audio), self.uses_tracks(), strict=True) if use)
        fused = self._adapted(unit_columns(parts), self.uses_tracks())
        if self.quality is not None:
            fused = self.quality(fused)
        theta: Tensor = self.av_projection(self.av_encoder(fused))
        return theta

    def text_input(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """The text features that are used, at unit length, side by side: [c, n_text]."""
        used = zip((text_visual, text_audio), self.uses_text(), strict=True)
        return unit_columns(tuple(part for part, use in used if use))

    def embed_text_input(self, text_input: Tensor) -> Tensor:
        """Text input [c, n_text] -> theta_text [c, d]."""
        return self._text_branch(text_input)[1]

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """L_base (Eq. 6 of AHSE) and, where it is configured, what AHSE and this project add to it."""
        config, mode, target = self.config, self.config.standardisation, batch.target
        theta_av = self.embed_av(batch.visual, batch.audio)  # [n, d]
        first = self._text_branch(rows_of(batch.text_input, target)) if config.follow == "code" else None
        hidden, theta_text = self._text_branch(batch.text_input)  # [c, h], [c, d]
        av = standardise(mode, theta_av, moments_for(mode, theta_av))
        stored = moments_for(mode, theta_text)
        prototypes = standardise(mode, theta_text, stored)
        # The decoders take theta, as in CLIP-CLAP; AHSE's paper does not say whether Eq. 1 applies to them.
        av_decoded = self.av_decoder(theta_av)
        if first is None:
            own_hidden, own = rows_of(hidden, target), rows_of(prototypes, target)
            own_decoded = rows_of(self.text_decoder(theta_text), target)
        else:
            own_hidden, own = first[0], standardise(mode, first[1], stored)
            own_decoded = self.text_decoder(first[1])
        terms = {
            "cross_entropy": cross_entropy(av, prototypes, target, self.logit_scale),
            "regression": regression(av, own),
            "reconstruction": reconstruction(own_hidden, av_decoded, own_decoded),
        }
        return terms | ahse.terms(config, batch, av, own, prototypes, self.logit_scale)

    def _text_branch(self, text_input: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoders rebuild, [c, h], and theta_text [c, d]."""
        hidden = self.text_encoder(self._adapted(text_input, self.uses_text()))
        return hidden, self.text_projection(hidden)

    def _new_adapters(self) -> nn.ModuleDict:
        """One for each encoder whose features are used, by its track."""
        scale, widths = self.config.adapter_scale, self._widths(self.uses_tracks())
        return nn.ModuleDict({track: ResidualAdapter(n, scale) for track, n in widths.items()})

    def _adapted(self, columns: Tensor, uses: tuple[bool, bool]) -> Tensor:
        """Unit features of the used encoders, side by side, each through its adapter: the same shape."""
        if self.adapters is None:
            return columns
        widths = self._widths(uses)
        parts = torch.split(columns, list(widths.values()), dim=1)
        adapted = [self.adapters[track](part) for track, part in zip(widths, parts, strict=True)]
        return torch.cat(adapted, dim=1)

    def _widths(self, uses: tuple[bool, bool]) -> dict[Track, int]:
        """Dimensions of the features of the used encoders."""
        widths = zip(SINGLE_TRACKS, (self.n_visual, self.n_audio), uses, strict=True)
        return {track: n for track, n, use in widths if use}


def cross_entropy(av: Tensor, prototypes: Tensor, target: Tensor, scale: float) -> Tensor:
    """Cross entropy of clips against all training classes by scaled dot product (CLIP-CLAP).

    Args:
        av: [n, d] clip embeddings.
        prototypes: [c, d] class embeddings.
        target: int64 [n], row of each clip's class in `prototypes`.
        scale: Factor on the logits; 1 in the reference code.
    """
    return F.cross_entropy(scale * (av @ prototypes.T), target)


def regression(av: Tensor, text: Tensor) -> Tensor:
    """Mean squared difference between clip and own class, over all entries of [n, d] (CLIP-CLAP)."""
    return F.mse_loss(av, text)


def reconstruction(text_hidden: Tensor, av_decoded: Tensor, text_decoded: Tensor) -> Tensor:
    """Squared errors of both decoders; the target [n, h] keeps its gradient (CLIP-CLAP)."""
    return F.mse_loss(av_decoded, text_hidden) + F.mse_loss(text_decoded, text_hidden)
