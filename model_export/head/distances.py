"""Distances between clips and class names: in the embedding, between the raw features, and both together."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model_export.head.batches import Clips, Texts
from model_export.head.config import EMBEDDING_DIM, Standardisation
from model_export.head.network import HeadNetwork
from model_export.head.standardise import standardise
from model_export.head.statistics import Statistics

RADIUS = math.sqrt(EMBEDDING_DIM)  # length of every embedding that was standardised per sample


def euclidean(av: Tensor, text: Tensor) -> Tensor:
    """Distances [n, c] between rows of av [n, d] and text [c, d].

    Not by matrix products: those round differently for different numbers of rows.
    """
    return torch.cdist(av, text, compute_mode="donot_use_mm_for_euclid_dist")


@torch.no_grad()
def embedding_distances(
    network: HeadNetwork, mode: Standardisation, statistics: Statistics, clips: Clips, texts: Texts
) -> Tensor:
    """Euclidean distances [n, c] of the standardised embeddings, with the stored statistics."""
    theta_av = network.embed_av(*statistics.fill(clips.visual, clips.audio))
    theta_text = network.embed_text(texts.visual, texts.audio)
    return euclidean(
        standardise(mode, theta_av, statistics.av), standardise(mode, theta_text, statistics.text)
    )


def raw_cosines(features: Tensor, texts: Tensor, feature_mean: Tensor, text_mean: Tensor) -> Tensor:
    """Cosines [n, c] of L2-normalised features [n, d] and texts [c, d], each side about its own centre.

    The encoders put clips and texts into two separate cones; taking off each cone's mean closes that gap.
    """
    centred = F.normalize(F.normalize(features, dim=1) - feature_mean, dim=1)
    centred_texts = F.normalize(F.normalize(texts, dim=1) - text_mean, dim=1)
    return centred @ centred_texts.T


def raw_distances(statistics: Statistics, clips: Clips, texts: Texts, visual_share: float) -> Tensor:
    """Distances [n, c] of the raw features, on a sphere as large as that of the embeddings.

    sqrt(64) * sqrt(2 - 2 * cosine), where the cosine is the mean of both tracks' cosines with the weights
    `visual_share` and 1 - `visual_share`; a track that the clip lacks has no weight.
    """
    s = statistics
    visual = raw_cosines(clips.visual, texts.visual, s.visual_mean, s.text_visual_mean)
    audio = raw_cosines(clips.audio, texts.audio, s.audio_mean, s.text_audio_mean)
    visual_weight = visual_share * clips.visual.any(dim=1, keepdim=True)
    audio_weight = (1 - visual_share) * clips.audio.any(dim=1, keepdim=True)
    total = (visual_weight + audio_weight).clamp_min(1e-12)
    cosine = (visual_weight * visual + audio_weight * audio) / total
    return RADIUS * torch.sqrt((2 - 2 * cosine).clamp_min(0))
