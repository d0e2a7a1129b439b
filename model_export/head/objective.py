"""The loss of one batch: L_base of CLIP-CLAP (Eq. 6) plus lambda times L_align of AHSE (Eq. 5 and 7)."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from model_export.head import losses
from model_export.head.config import HeadConfig
from model_export.head.network import HeadNetwork
from model_export.head.standardise import moments_for, standardise


@dataclass(frozen=True)
class Batch:
    """One training step's input.

    Attributes:
        visual: float32 [n, n_visual].
        audio: float32 [n, n_audio].
        target: int64 [n], row of each clip's class in `text_input`.
        text_input: float32 [c, n_text], of all training classes, from `HeadNetwork.text_input`.
        text_cosines: float32 [c, c], raw similarity of the training classes' texts.
        raw_targets: float32 [n, c], distribution over the training classes by raw similarity, if distilled.
    """

    visual: Tensor
    audio: Tensor
    target: Tensor
    text_input: Tensor
    text_cosines: Tensor
    raw_targets: Tensor | None


def loss_terms(network: HeadNetwork, config: HeadConfig, batch: Batch) -> dict[str, Tensor]:
    """Every weighted term of Eq. 7; their sum is what is minimised.

    The text side is computed once for all training classes, and the rows of the batch are taken from it.
    """
    theta_av = network.embed_av(batch.visual, batch.audio)  # [n, 64]
    hidden = network.text_encoder(batch.text_input)  # [c, 512], what the decoders rebuild
    theta_text = network.text_projection(hidden)  # [c, 64]
    mode = config.standardisation
    av = standardise(mode, theta_av, moments_for(mode, theta_av))
    prototypes = standardise(mode, theta_text, moments_for(mode, theta_text))
    text = rows_of(prototypes, batch.target)  # [n, 64]

    scale = network.logit_scale()
    terms = {
        "cross_entropy": losses.cross_entropy(av, prototypes, batch.target, scale),
        "regression": losses.regression(av, text),
    }
    av_code, text_code = (av, prototypes) if config.decode_standardised else (theta_av, theta_text)
    av_decoded = network.av_decoder(av_code)
    text_decoded = rows_of(network.text_decoder(text_code), batch.target)
    terms["reconstruction"] = losses.reconstruction(rows_of(hidden, batch.target), av_decoded, text_decoded)

    weight = config.align_weight
    if config.align_semantic:
        terms["semantic"] = weight * losses.semantic_alignment(av, text)
    if config.align_class:
        terms["class"] = weight * losses.class_alignment(av, text, config.kl_direction)
    if config.align_batch:
        terms["batch"] = weight * losses.batch_alignment(av, text)
    if config.geometry_weight:
        terms["geometry"] = config.geometry_weight * losses.text_geometry(prototypes, batch.text_cosines)
    if batch.raw_targets is not None:
        logits = scale * (av @ prototypes.T)
        terms["distillation"] = config.distil_weight * losses.distillation(logits, batch.raw_targets)
    return terms


def rows_of(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table [c, d] for int64 [n] indices: [n, d].

    `table[index]` adds up the gradients of a row in whatever order its threads come to it; an embedding's
    backward pass has one order, so that a seed gives the same weights every time.
    """
    return F.embedding(index, table)
