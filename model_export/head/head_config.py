"""The settings of a head: what is trained and how, and the named presets."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Standardisation = Literal["none", "per_dimension", "per_sample", "stored_then_sample"]
LogitScale = Literal["reference", "inverse_sqrt"]
Modality = Literal["both", "visual", "audio"]
TextEncoder = Literal["both", "clip", "clap"]

EMBEDDING_DIM: Final = 64
HIDDEN_DIM: Final = 512


class HeadConfig(BaseModel):
    """What is trained and how. The field defaults are the CLIP-CLAP baseline as published.

    Attributes:
        standardisation: How theta becomes z (Eq. 1); `none` is the baseline.
        align_semantic: Add the semantic-structure term (Eq. 2).
        align_class: Add the class-structure term (Eq. 3).
        align_batch: Add the batch-structure term (Eq. 4).
        align_weight: lambda of Eq. 7.
        logit_scale: Factor on the cross-entropy logits: 1 as in the reference code, or 1 / sqrt(64).
        geometry_weight: Weight of the term that keeps the similarities of the raw texts; 0: none.
        distil_weight: Weight of the raw similarities as soft targets; 0: none.
        modality: Tracks whose features the head takes.
        text: Text features that the head takes where `modality` is `both`; a single modality takes its own.
        modality_dropout: Chance, per training clip, that one of its two tracks (either, equally likely) is
            replaced by the fill-in feature that stands for a missing track.
        raw_fusion: Rank by the embedding and the raw features together; validation chooses their weights.
        dropout: Of every block.
        lr: Of Adam.
        weight_decay: Of Adam.
        n_epochs: Of the first stage; the second trains for as many as gave the best validation.
        n_batches_per_epoch: Class-balanced batches in an epoch.
        batch_size: Clips in a batch.
        seed: Of initialisation, sampling and dropout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    standardisation: Standardisation = "none"
    align_semantic: bool = False
    align_class: bool = False
    align_batch: bool = False
    align_weight: float = Field(default=1.0, ge=0)
    logit_scale: LogitScale = "reference"
    geometry_weight: float = Field(default=0.0, ge=0)
    distil_weight: float = Field(default=0.0, ge=0)
    modality: Modality = "both"
    text: TextEncoder = "both"
    modality_dropout: float = Field(default=0.0, ge=0, le=1)
    raw_fusion: bool = False
    dropout: float = Field(default=0.1, ge=0, lt=1)
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    n_epochs: int = Field(default=15, ge=1)
    n_batches_per_epoch: int = Field(default=300, ge=1)
    batch_size: int = Field(default=64, ge=2)
    seed: int = Field(default=42, ge=0)


PRESETS: Final = {
    "baseline": HeadConfig(),
    "ahse_paper": HeadConfig(
        standardisation="per_dimension", align_semantic=True, align_class=True, align_batch=True
    ),
    "ahse": HeadConfig(
        standardisation="stored_then_sample",
        align_semantic=True,
        align_class=True,
        align_batch=True,
        logit_scale="inverse_sqrt",
        geometry_weight=100.0,
        distil_weight=1.0,
        modality_dropout=0.2,
        raw_fusion=True,
        lr=1e-3,
        n_epochs=6,
    ),
}


PAPER_STANDARDISATION: Final[Standardisation] = "per_sample"
"""The reading of Eq. 1 that the paper's rows are measured with; it stores no statistics."""


def ablation(full: HeadConfig) -> dict[str, HeadConfig]:
    """The paper's four rows, all trained as `full` is; they differ in standardisation and alignment only.

    All four leave out what this project adds to the paper, stored statistics before standardisation per
    sample included.
    """
    no_es = {"standardisation": "none"}
    no_ha = {"align_semantic": False, "align_class": False, "align_batch": False}
    additions = {"geometry_weight": 0.0, "distil_weight": 0.0, "modality_dropout": 0.0, "raw_fusion": False}
    paper = full.model_copy(update=additions | {"standardisation": PAPER_STANDARDISATION})
    return {
        "baseline": paper.model_copy(update=no_es | no_ha),
        "ES only": paper.model_copy(update=no_ha),
        "HA only": paper.model_copy(update=no_es),
        "full": paper,
    }
