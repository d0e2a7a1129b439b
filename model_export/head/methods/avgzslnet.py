"""AVGZSLNet (Mazumder et al., WACV 2021, arXiv 2005.13402): class texts are rebuilt from each track.

The flow in training; at inference the decoder is left out:

    visual ─> visual_encoder ─> theta_visual ─┐
    audio  ─> audio_encoder ──> theta_audio ──┼─> decoder, one for all three ─> rebuilds text
    text   ─> text_encoder ───> theta_text ───┘

At test the distances of both tracks to theta_text are added. So the embedding has two parts: that of a clip
is [theta_visual; theta_audio], that of a class [theta_text; theta_text].

There are two public codes, and they differ; neither was compared with the paper's equations.

- `follow="code"`: the rerun in ExplainableML/AVCA-GZSL, from which the preset has its settings. Each
  network has one hidden layer with batch norm, 1024 wide for tracks, 300 for texts, 64 in the decoder,
  whose output is brought to unit length. Reconstruction is a Euclidean distance. Four triplets of
  embeddings.
- `follow="paper"`: the authors' own code (pratikm141/AVGZSLNet), without batch norm. One hidden layer of
  256 for tracks (its "1024, 256, 64" starts with the width of the features), none for texts, 128 in the
  decoder, whose output stays as it is. Reconstruction is a mean squared difference. Eight triplets of
  embeddings: those four, and the same with a clip and its negative in each other's place. Its dropout is
  0.5 for tracks and 0 elsewhere (`dropout=0.5 decoder_dropout=0`). It was trained by SGD (lr 0.3, momentum
  0.9, 200 epochs, batches of 4096); here Adam trains it, as it does all methods.

What differs here from both:

- Their texts are 300-d word2vec vectors. Which text features the reruns on CLIP and CLAP features used is
  not stated; here it is both, side by side, and this whole text input is what the decoder rebuilds, so its
  output is as wide. It is brought to unit length, as the rerun's word vectors are: a decoder whose output
  has unit length can rebuild nothing else. The hidden layer of the text stays 300 wide.
- They draw a negative clip for every clip; here it is a clip of another class in the batch.
- All features have unit length; both codes take them as they are.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.head.head_config import Follow, HeadConfig
from model_export.head.methods.terms import negatives, rows_of, triplet
from model_export.head.network import Block, HeadNetwork
from model_export.head.training_batches import Batch


class AvgzslNet(HeadNetwork):
    """AVGZSLNet's networks; at 512-d and 1024-d features 2,295,300 parameters (`code`) or 731,456 (`paper`).

    Args:
        config: The size of each part of the embedding, the dropouts, and which of two codes is followed.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.
    """

    n_parts: ClassVar[int] = 2

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__(config, n_visual, n_audio)
        n_text, d, p = n_visual + n_audio, config.embedding_dim, config.dropout
        q = p if config.decoder_dropout is None else config.decoder_dropout
        if config.follow == "code":
            self.visual_encoder = nn.Sequential(Block(n_visual, 1024, p), nn.Linear(1024, d))
            self.audio_encoder = nn.Sequential(Block(n_audio, 1024, p), nn.Linear(1024, d))
            self.text_encoder = nn.Sequential(Block(n_text, 300, p), nn.Linear(300, d))
            self.decoder = nn.Sequential(Block(d, 64, q), nn.Linear(64, n_text))
        else:
            self.visual_encoder = _without_norm(n_visual, 256, d, p)
            self.audio_encoder = _without_norm(n_audio, 256, d, p)
            self.text_encoder = nn.Sequential(nn.Linear(n_text, d))
            self.decoder = _without_norm(d, 128, n_text, q)

    def embed_av(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio] -> [theta_visual; theta_audio], [n, 2 d]."""
        return torch.cat(self.embed_tracks(visual, audio), dim=1)

    def embed_tracks(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Clip features -> theta_visual [n, d] and theta_audio [n, d]."""
        return self.visual_encoder(F.normalize(visual, dim=1)), self.audio_encoder(F.normalize(audio, dim=1))

    def text_input(self, text_visual: Tensor, text_audio: Tensor) -> Tensor:
        """Both text features with equal weight, side by side, unit length: [c, n_visual + n_audio]."""
        return F.normalize(super().text_input(text_visual, text_audio), dim=1)

    def embed_text_input(self, text_input: Tensor) -> Tensor:
        """Text input [c, n_text] -> [theta_text; theta_text], [c, 2 d]."""
        theta = self.text_encoder(text_input)
        return torch.cat([theta, theta], dim=1)

    def decode(self, theta: Tensor) -> Tensor:
        """An embedding of any kind [n, d] -> rebuilt text input [n, n_text]."""
        rebuilt: Tensor = self.decoder(theta)
        return F.normalize(rebuilt, dim=1) if self.config.follow == "code" else rebuilt

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Triplets of embeddings, reconstruction, and triplets of what is rebuilt; all with weight 1."""
        follow, other = self.config.follow, negatives(batch.target)
        text_input = rows_of(batch.text_input, batch.target)  # [n, n_text]
        text = self.text_encoder(text_input)  # [n, d]
        visual, audio = self.embed_tracks(batch.visual, batch.audio)  # [n, d] each
        from_text, from_visual, from_audio = (self.decode(theta) for theta in (text, visual, audio))
        return {
            "triplets": embedding_triplets(text, visual, other, follow)
            + embedding_triplets(text, audio, other, follow),
            "reconstruction": reconstruction(from_text, text_input, follow)
            + reconstruction(from_visual, text_input, follow)
            + reconstruction(from_audio, text_input, follow),
            "rebuilt_triplets": triplet(from_text, from_visual, rows_of(from_visual, other))
            + triplet(from_text, from_audio, rows_of(from_audio, other)),
        }


def embedding_triplets(text: Tensor, track: Tensor, other: Tensor, follow: Follow) -> Tensor:
    """Triplets of texts and one track, with either as the anchor (losses of the two public codes).

    Args:
        text: [n, d], text embeddings of the clips' classes.
        track: [n, d], the clips' embeddings of one track.
        other: int64 [n], for each clip the row of one of another class.
        follow: `code`: two triplets; `paper`: two more, with clip and other in each other's place.
    """
    other_text, other_track = rows_of(text, other), rows_of(track, other)
    found = triplet(text, track, other_track) + triplet(track, text, other_text)
    if follow == "paper":
        found = found + triplet(other_text, other_track, track) + triplet(other_track, other_text, text)
    return found


def reconstruction(rebuilt: Tensor, text_input: Tensor, follow: Follow) -> Tensor:
    """How far rebuilt texts [n, n_text] are from the text input [n, n_text] (losses of the two public codes).

    Args:
        rebuilt: By the decoder.
        text_input: Of the clips' classes.
        follow: `code`: mean Euclidean distance of rows; `paper`: mean squared difference of entries.
    """
    if follow == "paper":
        return F.mse_loss(rebuilt, text_input)
    distance: Tensor = torch.linalg.vector_norm(rebuilt - text_input, dim=1)
    return distance.mean()


def _without_norm(n_in: int, n_hidden: int, n_out: int, dropout: float) -> nn.Sequential:
    """[n, n_in] -> [n, n_out] with one hidden layer."""
    return nn.Sequential(
        nn.Linear(n_in, n_hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(n_hidden, n_out)
    )
