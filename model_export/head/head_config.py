"""The settings of a head: what is trained and how, and the named presets."""

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MethodName = Literal["cjme", "avgzslnet", "avca", "hyper_multiple", "clip_clap", "ez_avood", "hsp_moe"]
Standardisation = Literal["none", "per_dimension", "per_sample", "stored_then_sample"]
LogitScale = Literal["reference", "inverse_sqrt"]
Modality = Literal["both", "visual", "audio"]
TextEncoder = Literal["both", "clip", "clap"]
Follow = Literal["paper", "code"]
Normaliser = Literal["mean", "sum"]
SelectBy = Literal["embedding", "served"]
RawWeight = Literal["validated", "balanced"]


PAPER_STANDARDISATION: Final[Standardisation] = "per_sample"
"""The reading of Eq. 1 that the paper's rows are measured with; it stores no statistics."""


_METHODS_OF: Final[dict[str, tuple[MethodName, ...]]] = {
    **dict.fromkeys(
        (
            "standardisation",
            "align_semantic",
            "align_class",
            "align_batch",
            "align_weight",
            "align_normaliser",
        ),
        ("clip_clap",),
    ),
    **dict.fromkeys(("geometry_weight", "distil_weight", "modality", "text"), ("clip_clap",)),
    **dict.fromkeys(("adapter_scale", "quality_weights"), ("clip_clap",)),
    "hidden_dim": ("clip_clap", "ez_avood", "hsp_moe"),
    "logit_scale": ("clip_clap", "ez_avood"),
    "decoder_dropout": ("avca", "hyper_multiple", "avgzslnet"),
    "projection_dropout": ("avca", "hyper_multiple"),
}
"""Settings that only some methods have."""


class HeadConfig(BaseModel):
    """What is trained and how. The field defaults are the CLIP-CLAP baseline as published.

    Attributes:
        method: Whose networks and loss; the settings of AHSE are for `clip_clap` only.
        follow: Where a method's public code differs from its paper, which of the two; methods/ says where.
        embedding_dim: Dimensions d of the embedding, or of each of its parts.
        hidden_dim: Width h of the hidden layers of CLIP-CLAP.
        standardisation: How theta becomes z (Eq. 1); `none` is the baseline.
        align_semantic: Add the semantic-structure term (Eq. 2).
        align_class: Add the class-structure term (Eq. 3).
        align_batch: Add the batch-structure term (Eq. 4).
        align_weight: lambda of Eq. 7.
        align_normaliser: Whether Eq. 2 and 4 take the mean or the sum over the entries of their matrices.
        logit_scale: Factor on the cross-entropy logits: 1 as in the reference code, or 1 / sqrt(d).
        geometry_weight: Weight of the term that keeps the similarities of the raw texts; 0: none.
        distil_weight: Weight of the raw similarities as soft targets; 0: none.
        modality: Tracks whose features the head takes.
        text: Text features that the head takes where `modality` is `both`; a single modality takes its own.
        adapter_scale: Of what residual adapters add to the frozen features before they are fused; 0: none.
        quality_weights: Scale both tracks of a clip by learned weights before they are fused.
        modality_dropout: Chance, per training clip, that one of its two tracks (either, equally likely) is
            replaced by the fill-in feature that stands for a missing track.
        raw_fusion: Rank by the embedding and the raw features together.
        raw_weight: Weight of the raw distance there: the one with the best validation HM, or `balanced`: both
            distances are added after each is divided by its mean over the validation clips.
        select_by: Ranking whose validation HM chooses the epoch: that of the embedding alone, or the one that
            is served (with `raw_fusion`, the fused one).
        dropout: Of every block, or where the next two are set, of the encoders.
        projection_dropout: Of the projections; None: as `dropout`.
        decoder_dropout: Of the decoders; None: as `dropout`.
        lr: Of Adam.
        weight_decay: Of Adam.
        n_epochs: Of the first stage; the second trains for as many as gave the best validation.
        n_batches_per_epoch: Class-balanced batches in an epoch.
        batch_size: Clips in a batch.
        seed: Of initialisation, sampling and dropout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: MethodName = "clip_clap"
    follow: Follow = "paper"
    embedding_dim: int = Field(default=64, ge=2)
    hidden_dim: int = Field(default=512, ge=1)
    standardisation: Standardisation = "none"
    align_semantic: bool = False
    align_class: bool = False
    align_batch: bool = False
    align_weight: float = Field(default=1.0, ge=0)
    align_normaliser: Normaliser = "mean"
    logit_scale: LogitScale = "reference"
    geometry_weight: float = Field(default=0.0, ge=0)
    distil_weight: float = Field(default=0.0, ge=0)
    modality: Modality = "both"
    text: TextEncoder = "both"
    adapter_scale: float = Field(default=0.0, ge=0)
    quality_weights: bool = False
    modality_dropout: float = Field(default=0.0, ge=0, le=1)
    raw_fusion: bool = False
    raw_weight: RawWeight = "validated"
    select_by: SelectBy = "embedding"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    projection_dropout: float | None = Field(default=None, ge=0, lt=1)
    decoder_dropout: float | None = Field(default=None, ge=0, lt=1)
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    n_epochs: int = Field(default=15, ge=1)
    n_batches_per_epoch: int = Field(default=300, ge=1)
    batch_size: int = Field(default=64, ge=2)
    seed: int = Field(default=42, ge=0)

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        for name, methods in _METHODS_OF.items():
            is_set = getattr(self, name) != type(self).model_fields[name].default
            if is_set and self.method not in methods:
                raise ValueError(f"{name} is a setting of {', '.join(methods)}; {self.method} has none")
        if self.modality != "both" and self.modality_dropout:
            raise ValueError(
                f"modality_dropout takes a track from some clips; modality={self.modality} has only one"
            )
        if self.modality != "both" and self.quality_weights:
            raise ValueError(
                f"quality_weights weighs both tracks of a clip; modality={self.modality} has only one"
            )
        if self.modality != "both" and self.raw_fusion:
            raise ValueError(f"raw_fusion ranks by both tracks; modality={self.modality} has only one")
        if self.select_by == "served" and not self.raw_fusion:
            raise ValueError("select_by=served is the ranking of the embedding itself without raw_fusion")
        if self.raw_weight == "balanced" and not self.raw_fusion:
            raise ValueError(
                "raw_weight=balanced needs raw_fusion; without it the raw distance has no weight"
            )
        return self


# As ExplainableML/AVCA-GZSL runs it on ActivityNet (run_scripts/*/avca.sh, src/args.py). On UCF
# the dropouts are 0.2, 0.3 and 0.5; on VGGSound there are none.
_AVCA: Final = HeadConfig(
    method="avca",
    dropout=0.2,
    projection_dropout=0.2,
    decoder_dropout=0.1,
    lr=1e-3,
    n_epochs=50,
    n_batches_per_epoch=500,
    batch_size=256,
)

PRESETS: Final = {
    # As ExplainableML/AVCA-GZSL runs it (run_scripts/*/cjme.sh, src/args.py); on VGGSound it has no dropout.
    "cjme": HeadConfig(
        method="cjme",
        dropout=0.2,
        lr=1e-3,
        weight_decay=0.0,
        n_epochs=50,
        n_batches_per_epoch=500,
        batch_size=256,
    ),
    # As ExplainableML/AVCA-GZSL runs it (run_scripts/*/avgzslnet.sh, src/args.py), sizes included.
    "avgzslnet": HeadConfig(
        method="avgzslnet",
        follow="code",
        dropout=0.8,
        decoder_dropout=0.5,
        lr=1e-3,
        weight_decay=0.0,
        n_epochs=50,
        n_batches_per_epoch=500,
        batch_size=256,
    ),
    "avca": _AVCA,
    # JHome1/Hyper-AVZSL trains as AVCA does (run_scripts/ActivityNet-GZSL/hyper_avca.sh).
    "hyper_multiple": _AVCA.model_copy(update={"method": "hyper_multiple"}),
    "clip_clap": HeadConfig(),
    "ahse_paper": HeadConfig(
        standardisation=PAPER_STANDARDISATION, align_semantic=True, align_class=True, align_batch=True
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
    # The schedule of CLIP-CLAP; its own could not be read.
    "ez_avood": HeadConfig(method="ez_avood"),
    # The schedule of CLIP-CLAP, as in the public scripts; UCF there: lr 7e-5, 20 epochs.
    "hsp_moe": HeadConfig(method="hsp_moe", raw_fusion=True, raw_weight="balanced", select_by="served"),
}


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
        "CLIP-CLAP": paper.model_copy(update=no_es | no_ha),
        "ES only": paper.model_copy(update=no_ha),
        "HA only": paper.model_copy(update=no_es),
        "AHSE": paper,
    }
