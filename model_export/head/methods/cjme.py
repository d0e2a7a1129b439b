"""CJME (Parida et al., WACV 2020, arXiv 1910.08732): the dominant one of two tracks decides.

    visual ──────────> visual_encoder ─> theta_visual ─┐
    audio  ──────────> audio_encoder ──> theta_audio ──┼─ the one that alpha chooses ─> theta_av
    [visual; audio] ─> attention ──────> alpha ────────┘
    text   ──────────> text_encoder ───> theta_text

Alpha weighs the losses of the visual track in training. At test a clip has the distance of its visual
embedding where alpha >= 1/2, else that of its audio embedding; both are compared with the same theta_text,
so choosing the embedding chooses the distance. No label says which track is dominant: it is the one whose
softmax over the classes has the lower entropy.

Networks, sizes and losses are those of the public rerun (ExplainableML/AVCA-GZSL); the authors' own
repository (krantiparida/AudioSetZSL) holds data only. What differs here:

- The rerun multiplies alpha [n, 1] and triplet losses [n], which gives n x n products, and takes their
  mean. So no alpha weighs its own clip's losses; only the batch's mean alpha counts. `follow="code"` does
  so. With `follow="paper"` each clip's losses are weighed by its own alpha, which must have been meant.
- The rerun draws a negative clip for every clip; here it is a clip of another class in the batch.
- The rerun's texts are 300-d word2vec vectors. Which text features the reruns on CLIP and CLAP features
  used is not stated; here it is both, side by side. The hidden layer of the text stays 300 wide.
- All features have unit length; the rerun takes them as they are.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.head.head_config import Follow, HeadConfig
from model_export.head.methods.terms import negatives, rows_of
from model_export.head.network import Block, HeadNetwork
from model_export.head.training_batches import Batch

TRACK_HIDDEN: Final = 1024
TEXT_HIDDEN: Final = 300
DOMINANCE_MARGIN: Final = 0.1
"""In nats; where the entropies of both tracks differ by no more, neither is dominant."""


class Cjme(HeadNetwork):
    """CJME's networks; 2,195,781 parameters at 512-d and 1024-d features.

    Args:
        config: The size of the embedding, the dropout, and which way triplets are weighted.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.
    """

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__(config, n_visual, n_audio)
        n_both, d, p = n_visual + n_audio, config.embedding_dim, config.dropout
        self.visual_encoder = _encoder(n_visual, TRACK_HIDDEN, d, p)
        self.audio_encoder = _encoder(n_audio, TRACK_HIDDEN, d, p)
        self.text_encoder = _encoder(n_both, TEXT_HIDDEN, d, p)
        self.attention = nn.Sequential(nn.BatchNorm1d(n_both), nn.Linear(n_both, 1), nn.Sigmoid())

    def embed_av(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio] -> theta [n, d] of the track that alpha chooses."""
        theta_visual, theta_audio, alpha = self.embed_tracks(visual, audio)
        return torch.where(alpha >= 0.5, theta_visual, theta_audio)

    def embed_tracks(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clip features -> theta_visual [n, d], theta_audio [n, d] and alpha [n, 1], 0..1."""
        visual, audio = F.normalize(visual, dim=1), F.normalize(audio, dim=1)
        alpha = self.attention(torch.cat([visual, audio], dim=1))
        return self.visual_encoder(visual), self.audio_encoder(audio), alpha

    def embed_text_input(self, text_input: Tensor) -> Tensor:
        """Text input [c, n_visual + n_audio] -> theta_text [c, d]."""
        theta: Tensor = self.text_encoder(text_input)
        return theta

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted triplets, agreement of both tracks, and what teaches alpha; all with weight 1."""
        target = batch.target
        visual, audio, alpha = self.embed_tracks(batch.visual, batch.audio)  # [n, d], [n, d], [n, 1]
        text = self.embed_text_input(rows_of(batch.text_input, target))  # [n, d]
        with torch.no_grad():
            classes = self.embed_text_input(batch.text_input)  # [c, d]
            dominant = dominant_track(visual, audio, classes)
        other = negatives(target)
        of_visual = triplets(text, visual, rows_of(visual, other))
        of_audio = triplets(text, audio, rows_of(audio, other))
        alpha = alpha.squeeze(1)
        return {
            "triplets": weighted_triplets(alpha, of_visual, of_audio, self.config.follow),
            "agreement": F.mse_loss(audio, visual),
            "attention": F.mse_loss(alpha, dominant),
        }


def triplets(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + 1) of each row, Euclidean: [n, d] each -> [n]."""
    return F.triplet_margin_loss(anchor, positive, negative, margin=1.0, reduction="none")


def weighted_triplets(alpha: Tensor, visual: Tensor, audio: Tensor, follow: Follow) -> Tensor:
    """Triplet losses of both tracks, weighted alpha and 1 - alpha (loss of the public rerun).

    Args:
        alpha: [n], weight of the visual track.
        visual: [n], losses of the visual track.
        audio: [n], losses of the audio track.
        follow: `paper`: the mean of alpha_i visual_i + (1 - alpha_i) audio_i over the n clips; `code`: the
            mean of alpha_i visual_j + (1 - alpha_i) audio_j over all n x n pairs.
    """
    if follow == "paper":
        return (alpha * visual + (1 - alpha) * audio).mean()
    # The mean of all products of two lists is the product of their means.
    return alpha.mean() * visual.mean() + (1 - alpha).mean() * audio.mean()


def dominant_track(visual: Tensor, audio: Tensor, classes: Tensor) -> Tensor:
    """What alpha should be, from the entropy of each track's softmax over the classes (the public rerun).

    Args:
        visual: [n, d], visual embeddings.
        audio: [n, d], audio embeddings.
        classes: [c, d], text embeddings of all training classes.

    Returns:
        [n], 1 where the visual track's entropy is lower by more than 0.1, 0 where the audio track's is, else
        1/2.
    """
    visual_entropy, audio_entropy = (
        torch.special.entr(F.softmax(track @ classes.T, dim=1)).sum(dim=1) for track in (visual, audio)
    )
    visual_is = audio_entropy - visual_entropy > DOMINANCE_MARGIN
    audio_is = visual_entropy - audio_entropy > DOMINANCE_MARGIN
    target: Tensor = 0.5 + 0.5 * visual_is.float() - 0.5 * audio_is.float()
    return target


def _encoder(n_in: int, n_hidden: int, d: int, dropout: float) -> nn.Sequential:
    """[n, n_in] -> [n, d], never negative."""
    return nn.Sequential(Block(n_in, n_hidden, dropout), nn.Linear(n_hidden, d), nn.ReLU())
