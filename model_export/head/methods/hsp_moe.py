"""HSP-MoE (2026): CLIP-CLAP on the unit sphere, a mixture of experts, and terms that keep the raw geometry.

    visual, audio ─┬> CLIP-CLAP's av branch ─> theta ─> unit length ────┐
                   ├> three experts: both tracks, picture, sound ─┐     ├─ half each ─> unit length: theta_av
                   └> router: three weights ──────────────────────┴─────┘
    text ──────────> CLIP-CLAP's text branch ─> theta ─> unit length: theta_text

The loss is that of CLIP-CLAP, but the cross entropy takes cosines over a temperature, and the regression
theta before it gets unit length. Three small terms are added: `distribution` keeps the classes that a clip is
similar to by the raw features, `relations` the clips that it is similar to, and `uniformity` moves clips of
different classes apart.

The only source is the public code (XPX-LQL/HSP-MoE-AVGZSL) with its README; no paper could be found, so no
equations are cited. The numbers below are those of the README's full model. Text features are those of CLIP
and CLAP side by side, as there. The code runs the text branch twice in each step, as the code of CLIP-CLAP
does; `follow="code"` does so too, `follow="paper"` has the one text branch of CLIP-CLAP's paper.

At test the code adds half of the embedding's distance and half of the raw one, scaled so that both have the
same mean over all test clips: how a clip is ranked then depends on the other test clips. With the setting
`raw_weight="balanced"` these means are taken over the validation clips. The raw distance is this project's
own, of features about their means; the code does not subtract these.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.head.head_config import HeadConfig
from model_export.head.methods.clip_clap import ClipClap, cross_entropy, reconstruction, regression
from model_export.head.methods.terms import rows_of
from model_export.head.network import unit_columns
from model_export.head.training_batches import Batch

CLASS_TEMPERATURE: Final = 0.1  # of the cosines in the cross entropy
DISTILL_TEMPERATURE: Final = 2.0
MIXTURE_SHARE: Final = 0.5  # of the experts in theta_av
DISTRIBUTION_WEIGHT: Final = 0.001
RELATIONS_WEIGHT: Final = 0.0002
UNIFORMITY_WEIGHT: Final = 0.0002
UNIFORMITY_SCALE: Final = 2.0  # on the squared distances


class HspMoe(ClipClap):
    """CLIP-CLAP's networks and the experts; 2,776,131 parameters at 512-d and 1024-d features.

    Args:
        config: The size of the embedding, the dropout, which text branch.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.
    """

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__(config, n_visual, n_audio)
        self.experts = ExpertMixture(n_visual, n_audio, config.embedding_dim, config.dropout)

    def embed_av(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio] -> theta_av [n, d] of unit length."""
        return self._mixed(super().embed_av(visual, audio), visual, audio)

    def embed_text_input(self, text_input: Tensor) -> Tensor:
        """Text input [c, n_text] -> theta_text [c, d] of unit length."""
        return F.normalize(super().embed_text_input(text_input), dim=1)

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the public code."""
        target, raw = batch.target, unit_columns((batch.visual, batch.audio))
        theta = super().embed_av(batch.visual, batch.audio)  # [n, d], of any length
        if self.config.follow == "code":
            own_hidden, own = self._text_branch(rows_of(batch.text_input, target))
            own_decoded = self.text_decoder(own)
            theta_text = super().embed_text_input(batch.text_input)  # [c, d], of any length
        else:
            hidden, theta_text = self._text_branch(batch.text_input)
            own_hidden, own = rows_of(hidden, target), rows_of(theta_text, target)
            own_decoded = rows_of(self.text_decoder(theta_text), target)
        av, prototypes = self._mixed(theta, batch.visual, batch.audio), F.normalize(theta_text, dim=1)
        # Both sides have two parts of unit length, so half the product is the mean of the tracks' cosines.
        class_cosines, clip_cosines = raw @ batch.text_input.T / 2, raw @ raw.T / 2
        return {
            "cross_entropy": cross_entropy(av, prototypes, target, 1 / CLASS_TEMPERATURE),
            "regression": regression(theta, own),
            "reconstruction": reconstruction(own_hidden, self.av_decoder(theta), own_decoded),
            "distribution": DISTRIBUTION_WEIGHT * distribution(av @ prototypes.T, class_cosines),
            "relations": RELATIONS_WEIGHT * relations(av @ av.T, clip_cosines),
            "uniformity": UNIFORMITY_WEIGHT * uniformity(av, target),
        }

    def _mixed(self, theta: Tensor, visual: Tensor, audio: Tensor) -> Tensor:
        """Directions [n, d] half way between theta [n, d] and what the experts say."""
        mixture = self.experts(visual, audio)
        mixed = (1 - MIXTURE_SHARE) * F.normalize(theta, dim=1) + MIXTURE_SHARE * mixture
        return F.normalize(mixed, dim=1)


class ExpertMixture(nn.Module):
    """Three experts, of both tracks, of the picture and of the sound, weighted for each clip by a router.

    Args:
        n_visual: Dimensions of the visual features.
        n_audio: Dimensions of the audio features.
        dim: Dimensions d of the embedding.
        dropout: Of each expert's hidden layer and of the router's first.
    """

    def __init__(self, n_visual: int, n_audio: int, dim: int, dropout: float) -> None:
        super().__init__()
        hidden = max(2 * dim, 128)
        self.experts = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(n_in, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)),
                nn.Linear(hidden, dim),
            )
            for n_in in (n_visual + n_audio, n_visual, n_audio)
        )
        self.describe_visual, self.describe_audio = nn.Linear(n_visual, dim), nn.Linear(n_audio, dim)
        self.router = nn.Sequential(
            *(nn.Linear(2 * dim, 128), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 3)),
        )

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio], any length but zero -> directions [n, d]."""
        visual, audio = F.normalize(visual, dim=1), F.normalize(audio, dim=1)
        inputs = (torch.cat([visual, audio], dim=1), visual, audio)
        opinions = [F.normalize(expert(x), dim=1) for expert, x in zip(self.experts, inputs, strict=True)]
        described = unit_columns((self.describe_visual(visual), self.describe_audio(audio)))  # [n, 2 d]
        weights = F.softmax(self.router(described), dim=1)  # [n, 3]
        return F.normalize((weights.unsqueeze(2) * torch.stack(opinions, dim=1)).sum(dim=1), dim=1)


def distribution(cosines: Tensor, raw_cosines: Tensor) -> Tensor:
    """KL(raw || head) of the softmaxes over the classes at temperature 2, mean over clips, times 2^2.

    Args:
        cosines: [n, c] of clips and classes in the embedding.
        raw_cosines: [n, c] of their raw features.
    """
    t = DISTILL_TEMPERATURE
    log_found, raw = F.log_softmax(cosines / t, dim=1), F.softmax(raw_cosines / t, dim=1)
    return t**2 * F.kl_div(log_found, raw, reduction="batchmean")


def relations(cosines: Tensor, raw_cosines: Tensor) -> Tensor:
    """Mean squared difference of the clips' cosines [n, n] and the raw ones, without the diagonal."""
    n, squares = len(cosines), (cosines - raw_cosines) ** 2
    return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))


def uniformity(av: Tensor, target: Tensor) -> Tensor:
    """Log of the mean of exp(-2 |a - b|^2) over the pairs of clips of different classes, plus 8.

    Args:
        av: [n, d] of unit length.
        target: int64 [n], class of each clip.

    Returns:
        0 where all clips are of one class.
    """
    is_other = target[:, None] != target[None, :]
    if not is_other.any():
        return torch.zeros_like(av[0, 0])
    exponents = -UNIFORMITY_SCALE * (2 - 2 * av @ av.T).clamp_min(0)  # |a - b|^2 = 2 - 2 a.b
    log_sum = torch.logsumexp(exponents[is_other], dim=0)
    # Two points of the sphere are at most 2 apart: the summand keeps the loss from being negative.
    return log_sum - torch.log(is_other.sum()) + 4 * UNIFORMITY_SCALE
