"""Hyper-multiple, of "Hyperbolic audio-visual zero-shot learning" (ICCV 2023): AVCA and one more term.

By Hong et al. The term aligns the tokens before AVCA's attention. Each clip gets several curvatures. With
each of them its tokens are taken as points of a Poincaré ball and mapped to the tangent space at its
centre, and the cosines within the batch should be the same for the picture as for the sound:

    phi_v, phi_a ─> curvature ─> c_1, c_2

    phi_v ─> project ─> logmap0 ─> cosines [n, n] ─┐
                                                   ├─ mean squared difference; mean over c_1, c_2
    phi_a ─> project ─> logmap0 ─> cosines [n, n] ─┘

As in the public code (JHome1/Hyper-AVZSL), the negatives add a second such difference, and the sum has the
weight 1e-3.

The curvatures have no effect: `project` and `logmap0` change the length of a vector and not its direction,
so the cosines are those of the tokens themselves, and the gradient of the curvatures is 0 but for rounding.
The term is implemented as published nevertheless, and a test shows this in numbers.

The public code takes the number of curvatures and their upper end from the command line, and its scripts
run a variant with one constant curvature, 0.01. Here they are 2 and 0.01. An earlier text of that
repository names 2 or 3, and 0.04 to 0.50, by data set. As the curvatures have no effect, neither has this
choice.

`follow` acts on AVCA's part alone.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.head.head_config import HeadConfig
from model_export.head.methods.avca import TOKEN_DIM, Avca
from model_export.head.methods.terms import rows_of

ALIGNMENT_WEIGHT: Final = 1e-3
N_CURVATURES: Final = 2
MAX_CURVATURE: Final = 0.01
MIN_NORM: Final = 1e-5
INSIDE: Final = 1 - 1e-3  # of the radius: how far out a projected point lies


class HyperMultiple(Avca):
    """AVCA's networks and the curvatures; 2,118,370 parameters at 512-d and 1024-d features.

    Args:
        config: As of AVCA.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.
    """

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__(config, n_visual, n_audio)
        self.curvature = nn.Linear(2 * TOKEN_DIM, N_CURVATURES)

    def token_terms(self, visual: Tensor, audio: Tensor, other: Tensor) -> dict[str, Tensor]:
        """The alignment of phi_v and phi_a [n, 300], of the batch and of its negatives."""
        curvatures = self.curvatures(visual, audio)
        negative = (rows_of(rows, other) for rows in (visual, audio, curvatures))
        terms = alignment(visual, audio, curvatures) + alignment(*negative)
        return {"alignment": ALIGNMENT_WEIGHT * terms}

    def curvatures(self, visual: Tensor, audio: Tensor) -> Tensor:
        """phi_v and phi_a [n, 300] -> curvatures [n, 2] of each clip, between 0 and 0.01."""
        return MAX_CURVATURE * torch.sigmoid(self.curvature(torch.cat((visual, audio), dim=1)))


def alignment(visual: Tensor, audio: Tensor, curvatures: Tensor) -> Tensor:
    """Mean squared difference of both sides' cosines, mean over the curvatures (loss of the public code).

    Args:
        visual: [n, d].
        audio: [n, d].
        curvatures: [n, k], positive.
    """
    columns = curvatures.unsqueeze(2).unbind(dim=1)  # [n, 1] each
    terms = [F.mse_loss(cosines(visual, c), cosines(audio, c)) for c in columns]
    return torch.stack(terms).mean()


def cosines(rows: Tensor, curvature: Tensor) -> Tensor:
    """Cosines [n, n] between rows [n, d], each first mapped with its own curvature [n, 1]."""
    unit = F.normalize(logmap0(project(rows, curvature), curvature), dim=1)
    return unit @ unit.T


def project(rows: Tensor, curvature: Tensor) -> Tensor:
    """Rows [n, d] into the open ball of radius 1 / sqrt(c), for c [n, 1]; those inside stay as they are."""
    norm = _norm(rows)
    radius = INSIDE / torch.sqrt(curvature)
    return torch.where(norm > radius, rows * (radius / norm), rows)


def logmap0(points: Tensor, curvature: Tensor) -> Tensor:
    """Points [n, d] of the Poincaré ball with c [n, 1] -> tangent vectors [n, d] at its centre.

    artanh(sqrt(c) |x|) / (sqrt(c) |x|) x.
    """
    reach = torch.sqrt(curvature) * _norm(points)
    return torch.atanh(reach) / reach * points


def _norm(rows: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return norm.clamp_min(MIN_NORM)
