"""AVCA, audio-visual generalised zero-shot learning with cross-modal attention and language (CVPR 2022).

By Mercea et al. The flow in training; at inference a clip is theta_v alone, which has seen the audio
through the attention, and all that comes after theta is left out:

    visual ─> visual_encoder ─> phi_v ─┬───────────── + ─> visual_projection ─> theta_v ─> visual_rebuild
                                    attention
    audio  ─> audio_encoder ──> phi_a ─┴───────────── + ─> audio_projection ──> theta_a ─> audio_rebuild
    text   ──────────────────────────────────────────────> text_projection ───> theta_w

    theta_v, theta_a, theta_w ─> text_decoder ─> rho_v, rho_a, rho_w, which should be the text

The terms of the loss are those of the public code (ExplainableML/AVCA-GZSL); all have weight 1. It took
texts from word2vec. Which text features the reruns in AHSE's Table I took is not stated; here they are
those of CLIP and CLAP side by side. Every feature has unit length.

The public code has two oversights, which `follow="code"` repeats and `follow="paper"` does not:

- No optimiser is given the position vectors of the attention: they keep their initial values.
- Each training step also passes the rebuilt tokens through the projections and drops what comes out. Only the
  running averages of the batch norms see them: about a quarter of what normalises the first layers of the
  projections at inference is not from clips.

With both, the batch norms of second layers have momentum 0.99, as published. In torch that is the weight of
the newest batch, so their averages are nearly those of the last batch of training. A negative is another
clip of the batch; the public code draws it from all clips of other classes.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_export.head.head_config import HeadConfig
from model_export.head.methods.terms import negatives, rows_of, triplet
from model_export.head.network import Block, HeadNetwork
from model_export.head.training_batches import Batch

HIDDEN_DIM: Final = 512
TOKEN_DIM: Final = 300  # that of word2vec; the tokens keep it whatever the text is
N_HEADS: Final = 3
HEAD_DIM: Final = 100
MLP_DIM: Final = 64
SECOND_MOMENTUM: Final = 0.99


class TwoLayers(nn.Sequential):
    """[n, n_in] -> [n, 512] -> [n, n_out], two blocks with the published momenta."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__(
            Block(n_in, HIDDEN_DIM, dropout), Block(HIDDEN_DIM, n_out, dropout, momentum=SECOND_MOMENTUM)
        )


class CrossAttention(nn.Module):
    """One transformer layer, normalised before each half, over the two tokens of a clip."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(TOKEN_DIM)
        self.to_heads = nn.Linear(TOKEN_DIM, 3 * N_HEADS * HEAD_DIM, bias=False)
        self.from_heads = nn.Sequential(nn.Linear(N_HEADS * HEAD_DIM, TOKEN_DIM), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            *(nn.LayerNorm(TOKEN_DIM), nn.Linear(TOKEN_DIM, MLP_DIM), nn.GELU(), nn.Dropout(dropout)),
            *(nn.Linear(MLP_DIM, TOKEN_DIM), nn.Dropout(dropout)),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """[n, 2, 300] -> [n, 2, 300]; clips do not see each other."""
        tokens = tokens + self._attend(self.norm(tokens))
        mixed: Tensor = tokens + self.mlp(tokens)
        return mixed

    def _attend(self, tokens: Tensor) -> Tensor:
        heads = self.to_heads(tokens).unflatten(2, (3, N_HEADS, HEAD_DIM))  # [n, 2, 3, heads, 100]
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # [n, heads, 2, 100] each
        weights = F.softmax(query @ key.transpose(2, 3) / HEAD_DIM**0.5, dim=3)  # [n, heads, 2, 2]
        attended: Tensor = self.from_heads((weights @ value).transpose(1, 2).flatten(2))
        return attended


class Avca(HeadNetwork):
    """AVCA's networks; 2,117,168 parameters at 512-d and 1024-d features.

    Args:
        config: The width of the embedding and the dropout; `text_projection` has that of the decoders.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.
    """

    def __init__(self, config: HeadConfig, n_visual: int, n_audio: int) -> None:
        super().__init__(config, n_visual, n_audio)
        d, n_text, p = config.embedding_dim, n_visual + n_audio, config.dropout
        p_projection = p if config.projection_dropout is None else config.projection_dropout
        p_decoder = p if config.decoder_dropout is None else config.decoder_dropout
        self.visual_encoder = TwoLayers(n_visual, TOKEN_DIM, p)
        self.audio_encoder = TwoLayers(n_audio, TOKEN_DIM, p)
        self.position = nn.Parameter(torch.randn(2, TOKEN_DIM), requires_grad=config.follow == "paper")
        self.attention = CrossAttention(p)
        self.visual_projection = TwoLayers(TOKEN_DIM, d, p_projection)
        self.audio_projection = TwoLayers(TOKEN_DIM, d, p_projection)
        self.text_projection = Block(n_text, d, p_decoder)
        self.text_decoder = Block(d, n_text, p_decoder)
        self.visual_rebuild = Block(d, TOKEN_DIM, p_decoder)
        self.audio_rebuild = Block(d, TOKEN_DIM, p_decoder)

    def embed_av(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Clip features [n, n_visual], [n, n_audio] -> theta_v [n, d]."""
        attended_visual, _ = self._attended(*self._tokens(visual, audio))
        theta: Tensor = self.visual_projection(attended_visual)
        return theta

    def embed_text_input(self, text_input: Tensor) -> Tensor:
        """Text input [c, n_text] -> theta_w [c, d]."""
        theta: Tensor = self.text_projection(text_input)
        return theta

    def loss_terms(self, batch: Batch) -> dict[str, Tensor]:
        """All terms of the public code."""
        other = negatives(batch.target)
        text = rows_of(batch.text_input, batch.target)  # w [n, n_text]
        tokens = self._tokens(batch.visual, batch.audio)  # phi, [n, 300] each
        attended = self._attended(*tokens)
        theta_v, theta_a = self.visual_projection(attended[0]), self.audio_projection(attended[1])  # [n, d]
        theta_w = self.text_projection(text)
        rho_v, rho_a, rho_w = (self.text_decoder(theta) for theta in (theta_v, theta_a, theta_w))
        rebuilt = self.visual_rebuild(theta_v), self.audio_rebuild(theta_a)
        if self.config.follow == "code":
            self._pass_unused(attended, rebuilt)
        return {
            "reconstruction": sum_of_mse((rho_v, rho_a, rho_w), (text, text, text)),
            "decoded_triplets": decoded_triplet(rho_w, rho_v, other) + decoded_triplet(rho_w, rho_a, other),
            "triplets": four_triplets(theta_w, theta_v, other) + four_triplets(theta_w, theta_a, other),
            "rebuilding": sum_of_mse(rebuilt, tokens),
            "regression": sum_of_mse((theta_v, theta_a), (theta_w, theta_w)),
        } | self.token_terms(*tokens, other)

    def token_terms(self, visual: Tensor, audio: Tensor, other: Tensor) -> dict[str, Tensor]:
        """Weighted terms of the tokens [n, 300] before attention; AVCA has none.

        Args:
            visual: phi_v.
            audio: phi_a.
            other: int64 [n], row of each clip's negative.
        """
        del visual, audio, other
        return {}

    def _tokens(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """phi_v and phi_a [n, 300]."""
        return self.visual_encoder(F.normalize(visual)), self.audio_encoder(F.normalize(audio))

    def _attended(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """phi_v and phi_a [n, 300] -> both, with what the attention adds."""
        tokens = torch.stack((visual, audio), dim=1)
        attended_visual, attended_audio = (tokens + self.attention(tokens + self.position)).unbind(dim=1)
        return attended_visual, attended_audio

    @torch.no_grad()
    def _pass_unused(self, attended: tuple[Tensor, Tensor], rebuilt: tuple[Tensor, Tensor]) -> None:
        """The further passes of a step of the public code, which only batch norms see.

        It passes the negatives (here the clips of the batch stand for them), the rebuilt tokens, and then the
        clips once more.
        """
        for projection, clips, tokens in zip(
            (self.visual_projection, self.audio_projection), attended, rebuilt, strict=True
        ):
            for rows in (clips, tokens, clips):
                projection(rows)


def decoded_triplet(text: Tensor, clip: Tensor, other: Tensor) -> Tensor:
    """Text as anchor, clip as positive, another clip as negative, all decoded.

    Args:
        text: [n, n_text], rho_w of each clip's class.
        clip: [n, n_text], rho_v or rho_a.
        other: int64 [n], row of each clip's negative.
    """
    return triplet(text, clip, rows_of(clip, other))


def four_triplets(text: Tensor, clip: Tensor, other: Tensor) -> Tensor:
    """Text and clip, each as anchor of the other, with a negative text and a negative clip each.

    Those two whose negative is of the positive's kind are AVGZSLNet's, too; the others are the additional
    triplets of the public code.

    Args:
        text: [n, d], theta_w of each clip's class.
        clip: [n, d], theta_v or theta_a.
        other: int64 [n], row of each clip's negative.
    """
    other_text, other_clip = rows_of(text, other), rows_of(clip, other)
    with_own_kind = triplet(text, clip, other_clip) + triplet(clip, text, other_text)
    return with_own_kind + triplet(clip, text, other_clip) + triplet(text, clip, other_text)


def sum_of_mse(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> Tensor:
    """Sum over pairs of the mean squared difference of all entries; both sides keep their gradient."""
    terms = [F.mse_loss(one, other) for one, other in zip(found, wanted, strict=True)]
    return torch.stack(terms).sum()
