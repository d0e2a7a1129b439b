"""The loss terms of CLIP-CLAP and AHSE, one small pure function each.

All take rows that belong together: row i of `av` is a clip and row i of `text` the prototype of its class.
"""

import torch.nn.functional as F
from torch import Tensor

from model_export.head.config import KlDirection


def cross_entropy(av: Tensor, prototypes: Tensor, target: Tensor, scale: Tensor | float) -> Tensor:
    """Cross entropy of clips against all training classes by scaled dot product (CLIP-CLAP).

    Args:
        av: [n, d] clip embeddings.
        prototypes: [c, d] class embeddings.
        target: int64 [n], row of each clip's class in `prototypes`.
        scale: factor on the logits; 1 in the reference code.
    """
    return F.cross_entropy(scale * (av @ prototypes.T), target)


def regression(av: Tensor, text: Tensor) -> Tensor:
    """Mean squared difference between clip and own class, over all entries of [n, d] (CLIP-CLAP)."""
    return F.mse_loss(av, text)


def reconstruction(text_hidden: Tensor, av_decoded: Tensor, text_decoded: Tensor) -> Tensor:
    """Both decoders rebuild the text encoder's output [n, h]; the target keeps its gradient (CLIP-CLAP)."""
    return F.mse_loss(av_decoded, text_hidden) + F.mse_loss(text_decoded, text_hidden)


def semantic_alignment(av: Tensor, text: Tensor) -> Tensor:
    """Eq. 2: mean squared difference of the d x d second moments Z^T Z / n."""
    n = av.shape[0]
    return F.mse_loss(av.T @ av / n, text.T @ text / n)


def class_alignment(av: Tensor, text: Tensor, direction: KlDirection = "text_to_av") -> Tensor:
    """Eq. 3: KL divergence between the softmaxes over the d coordinates, mean over the n rows."""
    log_av, log_text = F.log_softmax(av, dim=1), F.log_softmax(text, dim=1)
    if direction == "text_to_av":
        return F.kl_div(log_av, log_text, reduction="batchmean", log_target=True)
    return F.kl_div(log_text, log_av, reduction="batchmean", log_target=True)


def batch_alignment(av: Tensor, text: Tensor) -> Tensor:
    """Eq. 4: mean squared difference of the n x n similarities Z Z^T / d."""
    d = av.shape[1]
    return F.mse_loss(av @ av.T / d, text @ text.T / d)


def text_geometry(prototypes: Tensor, raw_cosines: Tensor) -> Tensor:
    """Mean squared difference of the prototypes' cosines and the raw class texts' cosines.

    Not in the paper: it keeps classes that the raw text encoders find alike near each other, which is all
    that places a class never trained on.

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
