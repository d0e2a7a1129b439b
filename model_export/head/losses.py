"""The loss of a batch: L_base of CLIP-CLAP (Eq. 6) plus lambda times L_align of AHSE (Eq. 5 and 7).

Each term is a pure function. In all of them row i of `av` is a clip and row i of `text` the prototype of its
class.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model_export.head.head_config import HeadConfig
from model_export.head.network import HeadNetwork
from model_export.head.standardisation import moments_for, standardise
from model_export.head.training_batches import Batch


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


def semantic_alignment(av: Tensor, text: Tensor) -> Tensor:
    """Eq. 2: mean squared difference of the d x d second moments Z^T Z / n."""
    n = av.shape[0]
    return F.mse_loss(av.T @ av / n, text.T @ text / n)


def class_alignment(av: Tensor, text: Tensor) -> Tensor:
    """Eq. 3: KL(text || av) of the softmaxes over the d coordinates, mean over the n rows.

    The paper does not say in which direction the divergence is taken.
    """
    log_av, log_text = F.log_softmax(av, dim=1), F.log_softmax(text, dim=1)
    return F.kl_div(log_av, log_text, reduction="batchmean", log_target=True)


def batch_alignment(av: Tensor, text: Tensor) -> Tensor:
    """Eq. 4: mean squared difference of the n x n similarities Z Z^T / d."""
    d = av.shape[1]
    return F.mse_loss(av @ av.T / d, text @ text.T / d)


def text_geometry(prototypes: Tensor, raw_cosines: Tensor) -> Tensor:
    """Mean squared difference of the prototypes' cosines and the raw class texts' cosines.

    Not in the paper. It keeps classes that are similar by the raw text features near each other; nothing else
    gives a class that was never trained on its place.

    Args:
        prototypes: [c, d] class embeddings.
        raw_cosines: [c, c] of the raw text features about their centre.
    """
    unit = F.normalize(prototypes, dim=1)
    return F.mse_loss(unit @ unit.T, raw_cosines)


def distillation(logits: Tensor, raw_targets: Tensor) -> Tensor:
    """KL(raw || head) of the distributions over the training classes, mean over rows (after HSP-MoE).

    Args:
        logits: [n, c] of the head.
        raw_targets: [n, c], softmax of the raw CLIP and CLAP similarities.
    """
    return F.kl_div(F.log_softmax(logits, dim=1), raw_targets, reduction="batchmean")


def loss_terms(network: HeadNetwork, config: HeadConfig, batch: Batch) -> dict[str, Tensor]:
    """Every weighted term of Eq. 7; training minimises their sum.

    The text side is computed once for all training classes, and the rows of the batch are taken from it.
    """
    theta_av = network.embed_av(batch.visual, batch.audio)  # [n, 64]
    hidden = network.text_encoder(batch.text_input)  # [c, 512], what the decoders rebuild
    theta_text = network.text_projection(hidden)  # [c, 64]
    mode = config.standardisation
    av = standardise(mode, theta_av, moments_for(mode, theta_av))
    prototypes = standardise(mode, theta_text, moments_for(mode, theta_text))
    text = rows_of(prototypes, batch.target)  # [n, 64]

    scale = network.logit_scale
    terms = {
        "cross_entropy": cross_entropy(av, prototypes, batch.target, scale),
        "regression": regression(av, text),
    }
    # The decoders take theta, as in CLIP-CLAP; the paper does not say whether Eq. 1 applies to them.
    av_decoded = network.av_decoder(theta_av)
    text_decoded = rows_of(network.text_decoder(theta_text), batch.target)
    terms["reconstruction"] = reconstruction(rows_of(hidden, batch.target), av_decoded, text_decoded)

    weight = config.align_weight
    if config.align_semantic:
        terms["semantic"] = weight * semantic_alignment(av, text)
    if config.align_class:
        terms["class"] = weight * class_alignment(av, text)
    if config.align_batch:
        terms["batch"] = weight * batch_alignment(av, text)
    if config.geometry_weight:
        terms["geometry"] = config.geometry_weight * text_geometry(prototypes, batch.text_cosines)
    if batch.raw_targets is not None:
        logits = scale * (av @ prototypes.T)
        terms["distillation"] = config.distil_weight * distillation(logits, batch.raw_targets)
    return terms


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table [c, d] for int64 [n] indices: [n, d].

    The backward pass of `table[index]` adds up the gradients of a row in the order in which threads reach
    it; that of an embedding has one fixed order, so that a seed gives the same weights every time.
    """
    return F.embedding(index, table)
