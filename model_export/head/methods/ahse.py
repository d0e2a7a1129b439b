"""What AHSE adds to the loss of CLIP-CLAP: L_align (Eq. 5) times lambda (Eq. 7); and what this project adds.

Each term is a pure function. In all of them row i of `av` is a clip and row i of `text` the prototype of its
class.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model_export.head.head_config import HeadConfig, Normaliser
from model_export.head.training_batches import Batch


def terms(
    config: HeadConfig, batch: Batch, av: Tensor, text: Tensor, prototypes: Tensor, logit_scale: float
) -> dict[str, Tensor]:
    """The configured terms, weighted.

    Args:
        config: Which, and their weights.
        batch: Where the raw similarities are.
        av: [n, d] standardised clip embeddings.
        text: [n, d] standardised embeddings of their classes.
        prototypes: [c, d] standardised embeddings of all training classes.
        logit_scale: Factor on the logits.
    """
    found, weight, normaliser = {}, config.align_weight, config.align_normaliser
    if config.align_semantic:
        found["semantic"] = weight * semantic_alignment(av, text, normaliser)
    if config.align_class:
        found["class"] = weight * class_alignment(av, text)
    if config.align_batch:
        found["batch"] = weight * batch_alignment(av, text, normaliser)
    if config.geometry_weight:
        found["geometry"] = config.geometry_weight * text_geometry(prototypes, batch.text_cosines)
    if config.distil_weight and batch.raw_targets is not None:
        logits = logit_scale * (av @ prototypes.T)
        found["distillation"] = config.distil_weight * distillation(logits, batch.raw_targets)
    return found


def semantic_alignment(av: Tensor, text: Tensor, normaliser: Normaliser = "mean") -> Tensor:
    """Eq. 2: squared difference of the d x d second moments Z^T Z / n, mean or sum over the entries."""
    n = av.shape[0]
    return F.mse_loss(av.T @ av / n, text.T @ text / n, reduction=normaliser)


def class_alignment(av: Tensor, text: Tensor) -> Tensor:
    """Eq. 3: KL(text || av) of the softmaxes over the d coordinates, mean over the n rows.

    The paper does not say in which direction the divergence is taken.
    """
    log_av, log_text = F.log_softmax(av, dim=1), F.log_softmax(text, dim=1)
    return F.kl_div(log_av, log_text, reduction="batchmean", log_target=True)


def batch_alignment(av: Tensor, text: Tensor, normaliser: Normaliser = "mean") -> Tensor:
    """Eq. 4: squared difference of the n x n similarities Z Z^T / d, mean or sum over the entries."""
    d = av.shape[1]
    return F.mse_loss(av @ av.T / d, text @ text.T / d, reduction=normaliser)


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
