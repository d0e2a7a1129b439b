"""What CLIP-CLAP may do with frozen features before it fuses them: adapt each, and weigh both tracks.

    visual ─> adapter ─┬──────────────────> scaled ─┐
                       └> score ─┐             │    │
                                 ├ softmax: weights ├─ side by side ─> av_encoder
                       ┌> score ─┘             │    │
    audio ──> adapter ─┴──────────────────> scaled ─┘
    texts ──> the same adapters ──────────────────────────────────────> text_encoder

Both begin as if they were not there. They concern the embedding alone: targets from the raw features, and
the raw distances that are served and that the gate compares with, stay those of the frozen encoders.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BOTTLENECK: Final = 4  # how many times narrower the hidden layer of an adapter is
SCORE_DIM: Final = 32


class ResidualAdapter(nn.Module):
    """x + scale * MLP(x), at unit length, for features x of one encoder.

    After CLIP-Adapter (Gao et al., IJCV 2024, arXiv 2110.04544), whose public code has the same bottleneck,
    no biases, and 0.2 of the adapted and 0.8 of the frozen feature. Here the last layer starts at zero, so
    that the adapter starts as the identity, and the sum gets unit length again.

    Clips and texts of an encoder share one adapter, other than there: an adapter of its own for texts would
    see the seen classes' texts alone, and could move them away from those of classes that it never saw.

    Args:
        n_features: Dimensions of the features.
        scale: Of what is added.
    """

    def __init__(self, n_features: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        n_hidden = max(1, n_features // BOTTLENECK)
        # No biases: they would give the zeros of a track that no clip has a direction, made from next to
        # nothing, with gradients without bound.
        self.narrow = nn.Linear(n_features, n_hidden, bias=False)
        self.widen = nn.Linear(n_hidden, n_features, bias=False)
        nn.init.zeros_(self.widen.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Unit rows [n, n_features] -> unit rows [n, n_features]; zeros stay zeros."""
        change = self.widen(F.relu(self.narrow(features)))
        return F.normalize(features + self.scale * change, dim=1)


class QualityWeights(nn.Module):
    """Scales both tracks of a clip by weights that add up to 2; at first both are 1.

    Each track is scored by its own features, whatever the other one shows, and the weights are twice the
    softmax of both scores. So a poor track, or the fill-in feature of a missing one, can count less. This
    project's own; CJME (methods/cjme.py) chooses one of both tracks by such a weight.

    Args:
        n_visual: Dimensions of the visual features.
        n_audio: Dimensions of the audio features.
    """

    def __init__(self, n_visual: int, n_audio: int) -> None:
        super().__init__()
        self.sizes = [n_visual, n_audio]
        self.score_visual, self.score_audio = _score(n_visual), _score(n_audio)

    def forward(self, both: Tensor) -> Tensor:
        """Both tracks side by side, [n, n_visual + n_audio] -> the same, scaled."""
        visual, audio = torch.split(both, self.sizes, dim=1)
        weights = self.weights(visual, audio)
        return torch.cat([weights[:, :1] * visual, weights[:, 1:] * audio], dim=1)

    def weights(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Weights [n, 2] of the visual track [n, n_visual] and the audio track [n, n_audio] of each clip."""
        scores = torch.cat([self.score_visual(visual), self.score_audio(audio)], dim=1)
        return 2 * F.softmax(scores, dim=1)


def _score(n_features: int) -> nn.Sequential:
    """Features [n, n_features] -> scores [n, 1], at first 0."""
    last = nn.Linear(SCORE_DIM, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(n_features, SCORE_DIM), nn.ReLU(), last)
